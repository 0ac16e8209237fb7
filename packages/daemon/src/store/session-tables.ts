/** Table of exec sessions. Rows of a sprite that is gone are removed by the exec feature, so nothing is referenced. */
import type { CompiledQuery } from "kysely";
import type { Database } from "./database.ts";

export interface SessionSchema {
  sessions: {
    sprite_id: string;
    /** Decimal digits. */
    id: string;
    /** `session` or `job`. */
    owner: string;
    command: string;
    /** JSON array of strings. */
    argv: string;
    workdir: string;
    /** Terminal's size; null without terminal. */
    cols: number | null;
    rows: number | null;
    /** How long it runs on without a client; null: for ever. */
    run_on_ms: number | null;
    /** Life of the guest's memory in which it runs. */
    life_id: string;
    created_at_ms: number;
    /** Null while it runs. */
    ended_at_ms: number | null;
    last_output_at_ms: number | null;
    exit_code: number | null;
    exit_signal: string | null;
    /** Why its outcome is not known. */
    lost_code: string | null;
    lost_reason: string | null;
    /** Offsets after the last byte of each stream, and of the oldest byte kept. */
    stdout_bytes: number;
    stderr_bytes: number;
    stdout_start: number;
    stderr_start: number;
    input_taken: number;
    /** Bytes of its log's files. */
    log_bytes: number;
    /** Its id in the guest; null where that is the same. */
    guest_id: string | null;
    /** Key of the request that started it; null without. */
    start_key: string | null;
    /** Hex SHA-256 of that request. */
    start_hash: string | null;
    /** 1 when the guest is known to have taken the command; only of sessions with a key. */
    start_begun: number | null;
  };
  /** Stretches of a session's input: from `start_offset` to the next one it came from this client. */
  session_input_runs: { sprite_id: string; session_id: string; start_offset: number; client: string };
  /** Bytes of clients before a session's first stretch. */
  session_input_counts: { sprite_id: string; session_id: string; client: string; bytes: number; at_offset: number };
  /** Of each sprite the life begun with a placed memory whose sessions are on record. */
  adopted_lives: { sprite_id: string; life_id: string };
}

export function sessionTables(database: Database): { compile(): CompiledQuery }[] {
  const { schema } = database.query;
  return [
    schema
      .createTable("sessions")
      .addColumn("sprite_id", "text", (c) => c.notNull())
      .addColumn("id", "text", (c) => c.notNull())
      .addColumn("owner", "text", (c) => c.notNull())
      .addColumn("command", "text", (c) => c.notNull())
      .addColumn("argv", "text", (c) => c.notNull())
      .addColumn("workdir", "text", (c) => c.notNull())
      .addColumn("cols", "integer")
      .addColumn("rows", "integer")
      .addColumn("run_on_ms", "bigint")
      .addColumn("life_id", "text", (c) => c.notNull())
      .addColumn("created_at_ms", "bigint", (c) => c.notNull())
      .addColumn("ended_at_ms", "bigint")
      .addColumn("last_output_at_ms", "bigint")
      .addColumn("exit_code", "integer")
      .addColumn("exit_signal", "text")
      .addColumn("lost_code", "text")
      .addColumn("lost_reason", "text")
      .addColumn("stdout_bytes", "bigint", (c) => c.notNull())
      .addColumn("stderr_bytes", "bigint", (c) => c.notNull())
      .addColumn("stdout_start", "bigint", (c) => c.notNull())
      .addColumn("stderr_start", "bigint", (c) => c.notNull())
      .addColumn("input_taken", "bigint", (c) => c.notNull())
      .addColumn("log_bytes", "bigint", (c) => c.notNull())
      .addPrimaryKeyConstraint("sessions_key", ["sprite_id", "id"]),
    schema.createIndex("sessions_ended").on("sessions").columns(["sprite_id", "ended_at_ms"]),
  ];
}

export function adoptionTables(database: Database): { compile(): CompiledQuery }[] {
  const { schema } = database.query;
  return [
    schema.alterTable("sessions").addColumn("guest_id", "text"),
    schema
      .createTable("adopted_lives")
      .addColumn("sprite_id", "text", (c) => c.primaryKey())
      .addColumn("life_id", "text", (c) => c.notNull()),
  ];
}

export function inputAndStartTables(database: Database): { compile(): CompiledQuery }[] {
  const { schema } = database.query;
  return [
    schema.alterTable("sessions").addColumn("start_key", "text"),
    schema.alterTable("sessions").addColumn("start_hash", "text"),
    schema.alterTable("sessions").addColumn("start_begun", "integer"),
    schema.createIndex("sessions_start_key").unique().on("sessions").columns(["sprite_id", "start_key"]),
    schema
      .createTable("session_input_runs")
      .addColumn("sprite_id", "text", (c) => c.notNull())
      .addColumn("session_id", "text", (c) => c.notNull())
      .addColumn("start_offset", "bigint", (c) => c.notNull())
      .addColumn("client", "text", (c) => c.notNull())
      .addPrimaryKeyConstraint("session_input_runs_key", ["sprite_id", "session_id", "start_offset"]),
    schema
      .createTable("session_input_counts")
      .addColumn("sprite_id", "text", (c) => c.notNull())
      .addColumn("session_id", "text", (c) => c.notNull())
      .addColumn("client", "text", (c) => c.notNull())
      .addColumn("bytes", "bigint", (c) => c.notNull())
      .addColumn("at_offset", "bigint", (c) => c.notNull())
      .addPrimaryKeyConstraint("session_input_counts_key", ["sprite_id", "session_id", "client"]),
  ];
}
