/**
 * Queries on whose input of an exec session is whose (EXEC-25). Like the rows of sessions they
 * survive the end of the daemon, not that of the host's power.
 */
import type { Database } from "./database.ts";

interface Run {
  start: number;
  client: string;
}

interface Count {
  client: string;
  bytes: number;
  at: number;
}

export function sessionInput(database: Database, spriteId: string, sessionId: string) {
  const { query } = database;
  const key = { sprite_id: spriteId, session_id: sessionId };
  const runs = () => query.deleteFrom("session_input_runs").where("sprite_id", "=", spriteId).where("session_id", "=", sessionId);
  const add = (added: readonly Run[]): void => {
    const rows = added.map(({ start, client }) => ({ ...key, start_offset: start, client }));
    database.runUnflushed(query.insertInto("session_input_runs").values(rows));
  };
  return {
    load(): { counts: Count[]; runs: Run[] } {
      const counts = query
        .selectFrom("session_input_counts")
        .selectAll()
        .where("sprite_id", "=", spriteId)
        .where("session_id", "=", sessionId);
      const found = query
        .selectFrom("session_input_runs")
        .selectAll()
        .where("sprite_id", "=", spriteId)
        .where("session_id", "=", sessionId);
      return {
        counts: database.all(counts).map((row) => ({ client: row.client, bytes: row.bytes, at: row.at_offset })),
        runs: database.all(found.orderBy("start_offset")).map((row) => ({ start: row.start_offset, client: row.client })),
      };
    },
    add,
    /** Counts replace older ones; the runs that begin before `from`, or at `to` and beyond, are dropped. */
    fold({ counts, forgotten, from, to }: { counts: readonly Count[]; forgotten: readonly string[]; from: number; to: number }): void {
      database.transaction(() => {
        database.run(runs().where((e) => e.or([e("start_offset", "<", from), e("start_offset", ">=", to)])));
        for (const client of forgotten) database.run(countOf(client));
        for (const { client, bytes, at } of counts) {
          database.run(countOf(client));
          database.run(query.insertInto("session_input_counts").values({ ...key, client, bytes, at_offset: at }));
        }
      });
    },
  };

  function countOf(client: string) {
    return query
      .deleteFrom("session_input_counts")
      .where("sprite_id", "=", spriteId)
      .where("session_id", "=", sessionId)
      .where("client", "=", client);
  }
}

/** Forgets it for one session, or for all of a sprite. */
export function dropSessionInput(database: Database, spriteId: string, sessionId?: string): void {
  for (const table of ["session_input_runs", "session_input_counts"] as const) {
    const all = database.query.deleteFrom(table).where("sprite_id", "=", spriteId);
    database.runUnflushed(sessionId === undefined ? all : all.where("session_id", "=", sessionId));
  }
}
