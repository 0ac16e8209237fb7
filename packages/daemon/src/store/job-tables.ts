/** Table of jobs. A job's row may outlive its sprite until its webhook is settled, so nothing is referenced. */
import { type CompiledQuery, sql } from "kysely";
import type { Database } from "./database.ts";

export function jobTables(database: Database): { compile(): CompiledQuery }[] {
  const { schema } = database.query;
  return [
    schema
      .createTable("jobs")
      .addColumn("id", "text", (c) => c.primaryKey())
      .addColumn("organization_id", "text", (c) => c.notNull())
      .addColumn("sprite_id", "text", (c) => c.notNull())
      .addColumn("sprite_name", "text", (c) => c.notNull())
      .addColumn("state", "text", (c) => c.notNull())
      .addColumn("reason", "text")
      .addColumn("argv", "text", (c) => c.notNull())
      .addColumn("dir", "text")
      .addColumn("timeout_ms", "bigint")
      .addColumn("timing_out_at_ms", "bigint")
      .addColumn("idempotency_key", "text")
      .addColumn("request_hash", "text", (c) => c.notNull())
      .addColumn("stdin", sql`blob`)
      .addColumn("created_at_ms", "bigint", (c) => c.notNull())
      .addColumn("started_at_ms", "bigint")
      .addColumn("ended_at_ms", "bigint")
      .addColumn("exit_code", "integer")
      .addColumn("signal", "text")
      .addColumn("stdout_bytes", "bigint", (c) => c.notNull())
      .addColumn("stderr_bytes", "bigint", (c) => c.notNull())
      .addColumn("webhook_url", "text")
      .addColumn("webhook_secret", "text")
      .addColumn("webhook_state", "text")
      .addColumn("webhook_attempts", "integer", (c) => c.notNull())
      .addColumn("webhook_status", "integer")
      .addColumn("webhook_error", "text")
      .addColumn("webhook_next_at_ms", "bigint"),
    schema.createIndex("jobs_sprite").on("jobs").columns(["sprite_id", "created_at_ms", "id"]),
    schema.createIndex("jobs_idempotency_key").unique().on("jobs").columns(["sprite_id", "idempotency_key"]),
    schema.createIndex("jobs_webhook").on("jobs").columns(["webhook_state", "webhook_next_at_ms"]),
    schema.createIndex("jobs_state").on("jobs").column("state"),
  ];
}
