/**
 * Tables as the newest migration leaves them. Column types are those that SQLite and PostgreSQL
 * share: text, whole numbers (times in ms, booleans as 0/1), bytes; JSON as text.
 */
import type { SessionSchema } from "./session-tables.ts";
import type { BatchSchema } from "./sprite-batches.ts";
import type { TemplateSchema } from "./template-tables.ts";

export interface Schema extends TemplateSchema, SessionSchema, BatchSchema {
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
    /** Null: the server's default. */
    idle_seconds: number | null;
    image_name: string;
    image_digest: string;
    created_at_ms: number;
    updated_at_ms: number;
    last_running_at_ms: number | null;
    /** The pool that a spare waits in. */
    pool_id: string | null;
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
  checkpoints: {
    sprite_id: string;
    /** `v0`, `v1`, …; `auto-1`, … for automatic ones. */
    id: string;
    /** Order of making within the sprite. */
    position: number;
    comment: string;
    /** The checkpoint the sprite's state came from; null at the root. */
    parent_id: string | null;
    automatic: number;
    /** Whether the running memory was kept. */
    memory: number;
    /** `creating`, `verifying`, `complete`, `failed`. */
    state: string;
    /** Empty while healthy. */
    health: string;
    disk_bytes: number;
    memory_bytes: number;
    created_at_ms: number;
  };
  checkpoint_heads: {
    sprite_id: string;
    next_position: number;
    /** Number of the next one a user makes. */
    next_number: number;
    /** Number of the next automatic one. */
    next_automatic: number;
    /** The checkpoint the present state came from. */
    current_id: string | null;
  };
  checkpoint_restores: {
    sprite_id: string;
    target_id: string;
    /** The automatic checkpoint of the state before. */
    previous_id: string;
    /** `begun`: nothing of the sprite was changed yet; `swapping`: it must be finished. */
    phase: string;
    /** Whether the target's memory is restored too. */
    memory: number;
    started_at_ms: number;
  };
  jobs: {
    /** Also the id of its exec session; decimal digits. */
    id: string;
    organization_id: string;
    sprite_id: string;
    /** Sprites keep their name. */
    sprite_name: string;
    /** `starting`, `running`, `exited`, `signaled`, `timed_out`, `lost`. */
    state: string;
    /** Why it is lost or timed out. */
    reason: string | null;
    /** JSON array of strings. */
    argv: string;
    dir: string | null;
    timeout_ms: number | null;
    /** When it began to be ended because its time was up. */
    timing_out_at_ms: number | null;
    idempotency_key: string | null;
    /** Hex SHA-256 of the request. */
    request_hash: string;
    /** Input until the command has all of it. */
    stdin: Uint8Array | null;
    created_at_ms: number;
    started_at_ms: number | null;
    ended_at_ms: number | null;
    exit_code: number | null;
    signal: string | null;
    stdout_bytes: number;
    stderr_bytes: number;
    webhook_url: string | null;
    /** Secret. */
    webhook_secret: string | null;
    /** `waiting`, `pending`, `delivered`, `failed`; null without webhook. */
    webhook_state: string | null;
    webhook_attempts: number;
    webhook_status: number | null;
    webhook_error: string | null;
    webhook_next_at_ms: number | null;
  };
  migrations: {
    version: number;
    name: string;
    applied_at_ms: number;
  };
}
