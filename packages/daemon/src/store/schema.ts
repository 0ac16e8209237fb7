/**
 * Tables as the newest migration leaves them. Column types are those that SQLite and PostgreSQL
 * share: text, whole numbers (times in ms, booleans as 0/1), bytes; JSON as text.
 */
export interface Schema {
  organizations: {
    id: string;
    slug: string;
    name: string;
    created_at_ms: number;
  };
  tokens: {
    id: string;
    organization_id: string;
    description: string;
    /** Hex SHA-256 of the secret part. */
    secret_hash: string;
    name_prefix: string | null;
    admin: number;
    created_at_ms: number;
    last_used_at_ms: number | null;
    revoked_at_ms: number | null;
  };
  sprites: {
    id: string;
    organization_id: string;
    name: string;
    cpus: number;
    memory_mib: number;
    storage_gb: number;
    /** JSON object of strings. */
    environment: string;
    /** JSON array of strings. */
    labels: string;
    url_auth: string;
    url_private_access: string | null;
    image_name: string;
    image_digest: string;
    created_at_ms: number;
    updated_at_ms: number;
    last_running_at_ms: number | null;
    /** JSON; only the sprite's driver knows its form. */
    state: string;
    state_version: number;
    /** The state's kind, for counting. */
    state_kind: string;
  };
  vms: {
    incarnation: string;
    sprite_id: string;
    directory: string;
    slot_index: number | null;
    /** Secret. */
    link_key: Uint8Array;
    created_at_ms: number;
  };
  migrations: {
    version: number;
    name: string;
    applied_at_ms: number;
  };
}
