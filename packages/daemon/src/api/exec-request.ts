/** From the query of an exec call to a command. Pure. */
import { commandProblem } from "@sprited/protocol/api";
import { ApiError } from "@sprited/protocol/errors";
import type { ExecCommand } from "../exec/exec.ts";

/** Size of a terminal when the client names none. */
const TERMINAL_SIZE = { cols: 80, rows: 24 };
/** How long a command without terminal runs on when its client has gone, ms. */
const RUN_ON_MS = 10_000;

export interface ExecQuery {
  cmd?: string[] | undefined;
  path?: string | undefined;
  stdin?: boolean | undefined;
  env?: string[] | undefined;
  dir?: string | undefined;
  tty?: boolean | undefined;
  rows?: number | undefined;
  cols?: number | undefined;
  max_run_after_disconnect?: number | undefined;
  start_key?: string | undefined;
}

/** A command with how long it runs on without a client. */
export interface CommandRequest {
  work: ExecCommand;
  runAfterDisconnectMs: number | undefined;
  startKey: string | undefined;
}

/** Throws `exec_no_command`, `exec_invalid`. */
export function execRequest(query: ExecQuery): CommandRequest {
  const argv = [...(query.cmd ?? [])];
  if (query.path !== undefined && query.path !== "") argv[0] = query.path;
  if (argv[0] === undefined || argv[0] === "")
    throw new ApiError("exec_no_command", "no command: give it as cmd parameters, one for each argument", { details: { field: "cmd" } });
  const env = environmentOf(query.env ?? []);
  const problem = commandProblem(argv, env);
  if (problem !== undefined) throw new ApiError("exec_invalid", problem);
  const dir = query.dir === undefined || query.dir === "" ? undefined : query.dir;
  if (dir?.includes("\0")) throw new ApiError("exec_invalid", "dir has a NUL byte", { details: { field: "dir" } });
  const tty = query.tty ? { cols: query.cols || TERMINAL_SIZE.cols, rows: query.rows || TERMINAL_SIZE.rows } : undefined;
  return {
    work: { kind: "command", argv, env, dir, tty, stdin: query.stdin ?? tty !== undefined },
    runAfterDisconnectMs: runOn(query, tty !== undefined),
    startKey: query.start_key,
  };
}

/** `0` asks for ever; a terminal runs on for ever unless told otherwise. */
function runOn(query: ExecQuery, tty: boolean): number | undefined {
  const asked = query.max_run_after_disconnect ?? (tty ? 0 : RUN_ON_MS);
  return asked === 0 ? undefined : asked;
}

function environmentOf(entries: readonly string[]): Record<string, string> {
  const environment: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const entry of entries) {
    const at = entry.indexOf("=");
    if (at < 1) throw new ApiError("exec_invalid", "env entries have the form NAME=value", { details: { field: "env" } });
    environment[entry.slice(0, at)] = entry.slice(at + 1);
  }
  return { ...environment };
}
