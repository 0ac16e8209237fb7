/**
 * Sprites that exist together or not at all: each has a row here from the moment of its own, and
 * one statement that removes them all makes the batch finished. Whose row is there at the daemon's
 * start belongs to nobody.
 */
import type { CompiledQuery } from "kysely";
import type { Database } from "./database.ts";

export interface BatchSchema {
  sprite_batches: {
    sprite_id: string;
    batch_id: string;
  };
}

export function batchTables(database: Database): { compile(): CompiledQuery }[] {
  const { schema } = database.query;
  return [
    schema
      .createTable("sprite_batches")
      .addColumn("sprite_id", "text", (c) => c.primaryKey().references("sprites.id").onDelete("cascade"))
      .addColumn("batch_id", "text", (c) => c.notNull()),
  ];
}

/** Ids of the sprites whose batch is not finished. */
export function unfinishedSprites(database: Database): Set<string> {
  return new Set(database.all(database.query.selectFrom("sprite_batches").select("sprite_id")).map((row) => row.sprite_id));
}

export function addToBatch(database: Database, spriteId: string, batchId: string): void {
  database.run(database.query.insertInto("sprite_batches").values({ sprite_id: spriteId, batch_id: batchId }));
}

export function finishBatch(database: Database, batchId: string): void {
  database.run(database.query.deleteFrom("sprite_batches").where("batch_id", "=", batchId));
}
