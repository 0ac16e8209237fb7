/** Tables of checkpoints. A sprite's rows go with the sprite. */
import type { CompiledQuery } from "kysely";
import type { Database } from "./database.ts";

export function checkpointTables(database: Database): { compile(): CompiledQuery }[] {
  const { schema } = database.query;
  return [
    schema
      .createTable("checkpoints")
      .addColumn("sprite_id", "text", (c) => c.notNull().references("sprites.id").onDelete("cascade"))
      .addColumn("id", "text", (c) => c.notNull())
      .addColumn("position", "integer", (c) => c.notNull())
      .addColumn("comment", "text", (c) => c.notNull())
      .addColumn("parent_id", "text")
      .addColumn("automatic", "integer", (c) => c.notNull())
      .addColumn("memory", "integer", (c) => c.notNull())
      .addColumn("state", "text", (c) => c.notNull())
      .addColumn("health", "text", (c) => c.notNull())
      .addColumn("disk_bytes", "bigint", (c) => c.notNull())
      .addColumn("memory_bytes", "bigint", (c) => c.notNull())
      .addColumn("created_at_ms", "bigint", (c) => c.notNull())
      .addPrimaryKeyConstraint("checkpoints_key", ["sprite_id", "id"]),
    schema
      .createTable("checkpoint_heads")
      .addColumn("sprite_id", "text", (c) => c.primaryKey().references("sprites.id").onDelete("cascade"))
      .addColumn("next_position", "integer", (c) => c.notNull())
      .addColumn("next_number", "integer", (c) => c.notNull())
      .addColumn("next_automatic", "integer", (c) => c.notNull())
      .addColumn("current_id", "text"),
    schema
      .createTable("checkpoint_restores")
      .addColumn("sprite_id", "text", (c) => c.primaryKey().references("sprites.id").onDelete("cascade"))
      .addColumn("target_id", "text", (c) => c.notNull())
      .addColumn("previous_id", "text", (c) => c.notNull())
      .addColumn("phase", "text", (c) => c.notNull())
      .addColumn("memory", "integer", (c) => c.notNull())
      .addColumn("started_at_ms", "bigint", (c) => c.notNull()),
  ];
}
