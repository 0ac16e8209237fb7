/**
 * Queries on exec sessions. Rows of ordinary sessions survive the end of the daemon, not that of
 * the host's power: nothing they describe survives that either. Rows of jobs are flushed.
 */
import type { Database } from "./database.ts";
import { dropSessionInput, sessionInput } from "./session-inputs.ts";
import type { SessionSchema } from "./session-tables.ts";

type Row = SessionSchema["sessions"];

export interface SessionEndRecord {
  endedAtMs: number;
  lastOutputAtMs: number;
  outcome: { kind: "exit"; code: number | null; signal: string | null } | { kind: "lost"; code: string; reason: string };
  offsets: { stdout: number; stderr: number };
  startOffsets: { stdout: number; stderr: number };
  inputTaken: number;
  logBytes: number;
}

export interface SessionRecord {
  spriteId: string;
  id: string;
  /** Its id in the guest, where that is another. */
  guestId?: string | undefined;
  owner: "session" | "job";
  command: string;
  argv: string[];
  workdir: string;
  size: { cols: number; rows: number } | undefined;
  runAfterDisconnectMs: number | undefined;
  lifeId: string;
  createdAtMs: number;
  /** Key of the request that started it, and hex SHA-256 of that request. */
  start?: { key: string; hash: string } | undefined;
  /** Offsets at which its log begins; 0 when left out. */
  logStart?: { stdout: number; stderr: number } | undefined;
  /** Undefined while it runs. */
  end: SessionEndRecord | undefined;
}

/** What retention must know of an ended session. */
export interface EndedSessionSize {
  id: string;
  endedAtMs: number;
  logBytes: number;
}

export type SessionRecords = ReturnType<typeof sessionRecords>;

export function sessionRecords(database: Database) {
  const from = () => database.query.selectFrom("sessions");
  return {
    /** Sessions that run as far as anybody knows. */
    loadRunning: (): SessionRecord[] => database.all(from().selectAll().where("ended_at_ms", "is", null)).map(recordOf),
    find(spriteId: string, id: string): SessionRecord | undefined {
      const row = database.first(from().selectAll().where("sprite_id", "=", spriteId).where("id", "=", id));
      return row && recordOf(row);
    },
    /** Ended sessions of owner `session`, oldest first. */
    listEnded: (spriteId: string): SessionRecord[] =>
      database
        .all(
          from()
            .selectAll()
            .where("sprite_id", "=", spriteId)
            .where("owner", "=", "session")
            .where("ended_at_ms", "is not", null)
            .orderBy("id"),
        )
        .map(recordOf),
    /** Ended sessions of owner `session`, the last ended first. */
    sizesOfEnded: (spriteId: string): EndedSessionSize[] =>
      database
        .all(
          from()
            .select(["id", "ended_at_ms", "log_bytes"])
            .where("sprite_id", "=", spriteId)
            .where("owner", "=", "session")
            .where("ended_at_ms", "is not", null)
            .orderBy("ended_at_ms", "desc"),
        )
        .map((row) => ({ id: row.id, endedAtMs: row.ended_at_ms ?? 0, logBytes: row.log_bytes })),
    /** Every sprite that has sessions, and their ids. */
    keys: (): { spriteId: string; id: string }[] =>
      database.all(from().select(["sprite_id", "id"])).map((row) => ({ spriteId: row.sprite_id, id: row.id })),
    insert(record: SessionRecord): void {
      const query = database.query.insertInto("sessions").values(rowOf(record));
      if (record.owner === "job") database.run(query);
      else database.runUnflushed(query);
    },
    recordEnd(record: Pick<SessionRecord, "spriteId" | "id" | "owner">, end: SessionEndRecord): void {
      const query = database.query
        .updateTable("sessions")
        .set(endColumns(end))
        .where("sprite_id", "=", record.spriteId)
        .where("id", "=", record.id);
      if (record.owner === "job") database.run(query);
      else database.runUnflushed(query);
    },
    updateSize(spriteId: string, id: string, size: { cols: number; rows: number }): void {
      database.runUnflushed(database.query.updateTable("sessions").set(size).where("sprite_id", "=", spriteId).where("id", "=", id));
    },
    delete(spriteId: string, id: string): void {
      database.runUnflushed(database.query.deleteFrom("sessions").where("sprite_id", "=", spriteId).where("id", "=", id));
      dropSessionInput(database, spriteId, id);
    },
    deleteOfSprite(spriteId: string): void {
      dropSessionInput(database, spriteId);
      database.runUnflushed(database.query.deleteFrom("sessions").where("sprite_id", "=", spriteId));
      database.runUnflushed(database.query.deleteFrom("adopted_lives").where("sprite_id", "=", spriteId));
    },
    /** Whose input of the session is whose. */
    input: (spriteId: string, id: string) => sessionInput(database, spriteId, id),
    ...starts(database),
    ...adoptions(database),
  };
}

function starts(database: Database) {
  const sessions = () => database.query.selectFrom("sessions");
  return {
    /** The session that a request with this key started. */
    findByStartKey(spriteId: string, key: string): SessionRecord | undefined {
      const row = database.first(sessions().selectAll().where("sprite_id", "=", spriteId).where("start_key", "=", key));
      return row && recordOf(row);
    },
    /** The guest has the command of a session with a start key. */
    markBegun(spriteId: string, id: string): void {
      database.runUnflushed(
        database.query.updateTable("sessions").set({ start_begun: 1 }).where("sprite_id", "=", spriteId).where("id", "=", id),
      );
    },
    isBegun: (spriteId: string, id: string): boolean =>
      database.first(sessions().select("start_begun").where("sprite_id", "=", spriteId).where("id", "=", id))?.start_begun === 1,
  };
}

function adoptions(database: Database) {
  return {
    /** Records what was found in a placed memory, and that it was looked at: all or nothing. */
    adopt(spriteId: string, lifeId: string, records: readonly SessionRecord[]): void {
      database.transaction(() => {
        for (const record of records) database.run(database.query.insertInto("sessions").values(rowOf(record)));
        database.run(
          database.query
            .insertInto("adopted_lives")
            .values({ sprite_id: spriteId, life_id: lifeId })
            .onConflict((conflict) => conflict.column("sprite_id").doUpdateSet({ life_id: lifeId })),
        );
      });
    },
    /** Sprites of which the next is known. */
    adoptedSprites: (): string[] =>
      database.all(database.query.selectFrom("adopted_lives").select("sprite_id")).map((row) => row.sprite_id),
    /** The life whose placed memory was looked at last. */
    adoptedLife: (spriteId: string): string | undefined =>
      database.first(database.query.selectFrom("adopted_lives").select("life_id").where("sprite_id", "=", spriteId))?.life_id,
  };
}

function rowOf(record: SessionRecord): Row {
  return {
    sprite_id: record.spriteId,
    id: record.id,
    owner: record.owner,
    command: record.command,
    argv: JSON.stringify(record.argv),
    workdir: record.workdir,
    cols: record.size?.cols ?? null,
    rows: record.size?.rows ?? null,
    run_on_ms: record.runAfterDisconnectMs ?? null,
    life_id: record.lifeId,
    created_at_ms: record.createdAtMs,
    guest_id: record.guestId ?? null,
    start_key: record.start?.key ?? null,
    start_hash: record.start?.hash ?? null,
    start_begun: null,
    ...(record.end
      ? endColumns(record.end)
      : { ...NO_END, stdout_start: record.logStart?.stdout ?? 0, stderr_start: record.logStart?.stderr ?? 0 }),
  };
}

const NO_END = {
  ended_at_ms: null,
  last_output_at_ms: null,
  exit_code: null,
  exit_signal: null,
  lost_code: null,
  lost_reason: null,
  stdout_bytes: 0,
  stderr_bytes: 0,
  stdout_start: 0,
  stderr_start: 0,
  input_taken: 0,
  log_bytes: 0,
};

function endColumns({ outcome, ...end }: SessionEndRecord) {
  return {
    ended_at_ms: end.endedAtMs,
    last_output_at_ms: end.lastOutputAtMs,
    exit_code: outcome.kind === "exit" ? outcome.code : null,
    exit_signal: outcome.kind === "exit" ? outcome.signal : null,
    lost_code: outcome.kind === "lost" ? outcome.code : null,
    lost_reason: outcome.kind === "lost" ? outcome.reason : null,
    stdout_bytes: end.offsets.stdout,
    stderr_bytes: end.offsets.stderr,
    stdout_start: end.startOffsets.stdout,
    stderr_start: end.startOffsets.stderr,
    input_taken: end.inputTaken,
    log_bytes: end.logBytes,
  };
}

function recordOf(row: Row): SessionRecord {
  return {
    spriteId: row.sprite_id,
    id: row.id,
    guestId: row.guest_id ?? undefined,
    owner: row.owner === "job" ? "job" : "session",
    command: row.command,
    argv: JSON.parse(row.argv) as string[],
    workdir: row.workdir,
    size: row.cols === null || row.rows === null ? undefined : { cols: row.cols, rows: row.rows },
    runAfterDisconnectMs: row.run_on_ms ?? undefined,
    lifeId: row.life_id,
    createdAtMs: row.created_at_ms,
    start: row.start_key === null ? undefined : { key: row.start_key, hash: row.start_hash ?? "" },
    logStart: { stdout: row.stdout_start, stderr: row.stderr_start },
    end:
      row.ended_at_ms === null
        ? undefined
        : {
            endedAtMs: row.ended_at_ms,
            lastOutputAtMs: row.last_output_at_ms ?? row.ended_at_ms,
            outcome:
              row.lost_code === null
                ? { kind: "exit", code: row.exit_code, signal: row.exit_signal }
                : { kind: "lost", code: row.lost_code, reason: row.lost_reason ?? "" },
            offsets: { stdout: row.stdout_bytes, stderr: row.stderr_bytes },
            startOffsets: { stdout: row.stdout_start, stderr: row.stderr_start },
            inputTaken: row.input_taken,
            logBytes: row.log_bytes,
          },
  };
}
