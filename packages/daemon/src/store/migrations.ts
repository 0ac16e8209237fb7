/**
 * How the database came to its present form: forward only, each step in a transaction of its own
 * (docs/howto/add-a-migration.md). A step that has been released is never changed.
 */
import { type CompiledQuery, sql } from "kysely";
import { checkpointTables } from "./checkpoint-tables.ts";
import type { Database } from "./database.ts";
import { StoreError } from "./errors.ts";
import { jobTables } from "./job-tables.ts";
import { adoptionTables, inputAndStartTables, sessionTables } from "./session-tables.ts";
import { batchTables } from "./sprite-batches.ts";
import { templateTables } from "./template-tables.ts";

interface Migration {
  name: string;
  steps(database: Database): { compile(): CompiledQuery }[];
}

/** In order; the version of a migration is its place, from 1. */
export const MIGRATIONS: readonly Migration[] = [
  { name: "organizations, tokens, sprites, vms", steps: firstTables },
  { name: "checkpoints", steps: checkpointTables },
  { name: "templates, pools", steps: templateTables },
  { name: "jobs", steps: jobTables },
  { name: "exec sessions", steps: sessionTables },
  { name: "idle time of sprites", steps: ({ query }) => [query.schema.alterTable("sprites").addColumn("idle_seconds", "integer")] },
  { name: "sessions of placed memories", steps: adoptionTables },
  { name: "counts of pools", steps: ({ query }) => [query.schema.alterTable("pools").addColumn("counts", "text")] },
  { name: "input of clients, keys of starts", steps: inputAndStartTables },
  { name: "sprites made together", steps: batchTables },
];

/** Applies what is missing. Throws `StoreError` for a database of a newer version. */
export function migrate(database: Database, migrations: readonly Migration[] = MIGRATIONS): void {
  const { schema } = database.query;
  database.run(
    schema
      .createTable("migrations")
      .ifNotExists()
      .addColumn("version", "integer", (column) => column.primaryKey())
      .addColumn("name", "text", (column) => column.notNull())
      .addColumn("applied_at_ms", "bigint", (column) => column.notNull()),
  );
  const present = database.first(database.query.selectFrom("migrations").select((e) => e.fn.max("version").as("version")))?.version ?? 0;
  if (present > migrations.length) {
    throw new StoreError(
      "store_newer",
      `the database has version ${present}, this program knows up to ${migrations.length}; use the newer program`,
    );
  }
  for (const [index, migration] of migrations.entries()) {
    const version = index + 1;
    if (version <= present) continue;
    database.transaction(() => {
      for (const step of migration.steps(database)) database.run(step);
      database.run(database.query.insertInto("migrations").values({ version, name: migration.name, applied_at_ms: Date.now() }));
    });
  }
}

function firstTables(database: Database): { compile(): CompiledQuery }[] {
  const { schema } = database.query;
  return [
    schema
      .createTable("organizations")
      .addColumn("id", "text", (c) => c.primaryKey())
      .addColumn("slug", "text", (c) => c.notNull().unique())
      .addColumn("name", "text", (c) => c.notNull())
      .addColumn("created_at_ms", "bigint", (c) => c.notNull()),
    schema
      .createTable("tokens")
      .addColumn("id", "text", (c) => c.primaryKey())
      .addColumn("organization_id", "text", (c) => c.notNull().references("organizations.id"))
      .addColumn("description", "text", (c) => c.notNull())
      .addColumn("secret_hash", "text", (c) => c.notNull())
      .addColumn("name_prefix", "text")
      .addColumn("admin", "integer", (c) => c.notNull())
      .addColumn("created_at_ms", "bigint", (c) => c.notNull())
      .addColumn("last_used_at_ms", "bigint")
      .addColumn("revoked_at_ms", "bigint"),
    schema.createIndex("tokens_organization").on("tokens").columns(["organization_id", "created_at_ms"]),
    schema
      .createTable("sprites")
      .addColumn("id", "text", (c) => c.primaryKey())
      .addColumn("organization_id", "text", (c) => c.notNull().references("organizations.id"))
      .addColumn("name", "text", (c) => c.notNull())
      .addColumn("cpus", "integer", (c) => c.notNull())
      .addColumn("memory_mib", "integer", (c) => c.notNull())
      .addColumn("storage_gb", "integer", (c) => c.notNull())
      .addColumn("environment", "text", (c) => c.notNull())
      .addColumn("labels", "text", (c) => c.notNull())
      .addColumn("url_auth", "text", (c) => c.notNull())
      .addColumn("url_private_access", "text")
      .addColumn("image_name", "text", (c) => c.notNull())
      .addColumn("image_digest", "text", (c) => c.notNull())
      .addColumn("created_at_ms", "bigint", (c) => c.notNull())
      .addColumn("updated_at_ms", "bigint", (c) => c.notNull())
      .addColumn("last_running_at_ms", "bigint")
      .addColumn("state", "text", (c) => c.notNull())
      .addColumn("state_version", "integer", (c) => c.notNull())
      .addColumn("state_kind", "text", (c) => c.notNull()),
    schema.createIndex("sprites_name").unique().on("sprites").columns(["organization_id", "name"]),
    schema
      .createTable("vms")
      .addColumn("incarnation", "text", (c) => c.primaryKey())
      .addColumn("sprite_id", "text", (c) => c.notNull().references("sprites.id"))
      .addColumn("directory", "text", (c) => c.notNull())
      .addColumn("slot_index", "integer")
      .addColumn("link_key", sql`blob`, (c) => c.notNull())
      .addColumn("created_at_ms", "bigint", (c) => c.notNull()),
    schema.createIndex("vms_sprite").on("vms").column("sprite_id"),
  ];
}
