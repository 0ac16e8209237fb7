/** Tables of templates, pools and quotas. */
import type { CompiledQuery } from "kysely";
import type { Database } from "./database.ts";

/** Columns as in `schema.ts`. */
export interface TemplateSchema {
  template_versions: {
    id: string;
    organization_id: string;
    name: string;
    version: number;
    /** 1 for the version the name stands for. */
    is_current: number;
    /** JSON; only the template feature knows its form. */
    content: string;
    created_at_ms: number;
  };
  pools: {
    id: string;
    organization_id: string;
    name: string;
    template_name: string;
    /** JSON of the pool's settings. */
    config: string;
    claimed: number;
    /** JSON of what the pool counts beside; null before the first time. */
    counts: string | null;
    created_at_ms: number;
    updated_at_ms: number;
  };
  pool_spares: {
    sprite_id: string;
    pool_id: string;
    template_version: number;
    /** `filling` or `ready`. */
    state: string;
    since_ms: number;
  };
  organization_quotas: {
    organization_id: string;
    /** Null: no limit. */
    sprites: number | null;
    running: number | null;
    disk_gb: number | null;
    checkpoints: number | null;
  };
  pool_claims: {
    organization_id: string;
    idempotency_key: string;
    pool_id: string;
    sprite_id: string;
    asked_name: string | null;
    sprite_name: string;
    claimed_at_ms: number;
  };
}

export function templateTables(database: Database): { compile(): CompiledQuery }[] {
  const { schema } = database.query;
  return [
    schema.alterTable("sprites").addColumn("pool_id", "text"),
    schema
      .createTable("template_versions")
      .addColumn("id", "text", (c) => c.primaryKey())
      .addColumn("organization_id", "text", (c) => c.notNull().references("organizations.id"))
      .addColumn("name", "text", (c) => c.notNull())
      .addColumn("version", "integer", (c) => c.notNull())
      .addColumn("is_current", "integer", (c) => c.notNull())
      .addColumn("content", "text", (c) => c.notNull())
      .addColumn("created_at_ms", "bigint", (c) => c.notNull()),
    schema.createIndex("template_versions_name").unique().on("template_versions").columns(["organization_id", "name", "version"]),
    schema
      .createTable("pools")
      .addColumn("id", "text", (c) => c.primaryKey())
      .addColumn("organization_id", "text", (c) => c.notNull().references("organizations.id"))
      .addColumn("name", "text", (c) => c.notNull())
      .addColumn("template_name", "text", (c) => c.notNull())
      .addColumn("config", "text", (c) => c.notNull())
      .addColumn("claimed", "integer", (c) => c.notNull())
      .addColumn("created_at_ms", "bigint", (c) => c.notNull())
      .addColumn("updated_at_ms", "bigint", (c) => c.notNull()),
    schema.createIndex("pools_name").unique().on("pools").columns(["organization_id", "name"]),
    schema
      .createTable("pool_spares")
      .addColumn("sprite_id", "text", (c) => c.primaryKey())
      .addColumn("pool_id", "text", (c) => c.notNull())
      .addColumn("template_version", "integer", (c) => c.notNull())
      .addColumn("state", "text", (c) => c.notNull())
      .addColumn("since_ms", "bigint", (c) => c.notNull()),
    schema
      .createTable("organization_quotas")
      .addColumn("organization_id", "text", (c) => c.primaryKey().references("organizations.id"))
      .addColumn("sprites", "integer")
      .addColumn("running", "integer")
      .addColumn("disk_gb", "integer")
      .addColumn("checkpoints", "integer"),
    schema
      .createTable("pool_claims")
      .addColumn("organization_id", "text", (c) => c.notNull())
      .addColumn("idempotency_key", "text", (c) => c.notNull())
      .addColumn("pool_id", "text", (c) => c.notNull())
      .addColumn("sprite_id", "text", (c) => c.notNull())
      .addColumn("asked_name", "text")
      .addColumn("sprite_name", "text", (c) => c.notNull())
      .addColumn("claimed_at_ms", "bigint", (c) => c.notNull())
      .addPrimaryKeyConstraint("pool_claims_key", ["organization_id", "idempotency_key"]),
  ];
}
