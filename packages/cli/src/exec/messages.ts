/** The lines on standard error about a connection: lost, back, left, given up, output missing. Pure. */
import { ConnectionError, type ConnectionErrorCode } from "@sprited/protocol/client/errors";
import { CliError } from "../output/cli-error.ts";
import { describeError } from "../output/report.ts";

/** How long a lost connection is tried again when the user says nothing, ms. */
export const RECONNECT_FOR_MS = 300_000;

/** `4 s`, `5 min`. */
export function durationText(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

export function lostMessage(sprite: string, reconnectForMs: number): string {
  return `sprite: connection to ${sprite} lost; trying again for ${durationText(reconnectForMs)}, Ctrl-C leaves`;
}

export function backMessage(sprite: string, afterMs: number): string {
  return `sprite: connected to ${sprite} again after ${durationText(afterMs)}`;
}

/** Output that the server no longer had when we came back. */
export function gapMessage(bytes: number): string {
  return `sprite: ${bytes} bytes of output are missing here: the server no longer has them`;
}

/** The command line that goes back to a session. */
export function attachLine(sprite: string, sessionId: string): string {
  return `sprite attach -s ${sprite} ${sessionId}`;
}

/** What the user is told who leaves a command while its connection is lost. */
export function leftMessage(sprite: string, sessionId: string): string {
  return `sprite: left ${sprite} while the connection was lost; the command may run on: ${attachLine(sprite, sessionId)}`;
}

/** The same error with a hint how to come back, where that makes sense. */
export function withWayBack(error: unknown, sprite: string, sessionId: string): unknown {
  if (!(error instanceof ConnectionError) || error.code === "session_gone") return error;
  const { message, code } = describeError(error);
  return new CliError(message, {
    hint: `The command may run on; \`${attachLine(sprite, sessionId)}\` goes back to it.`,
    code,
    cause: error,
  });
}

const MAY_HAVE_STARTED: ReadonlySet<ConnectionErrorCode> = new Set(["closed", "timeout", "gave_up"]);

/** The error of a connection that ended before the session was known: the command may have been started. */
export function neverTwice(error: unknown): unknown {
  if (!(error instanceof ConnectionError) || !MAY_HAVE_STARTED.has(error.code)) return error;
  const { message, code } = describeError(error);
  return new CliError(message, { hint: "The command may have been started; it is not run again by itself.", code, cause: error });
}

/** The end of a command by `--http-post` whose input was sent but is not known to have arrived, and is too much to be kept. */
export function inputGone(error: ConnectionError, sprite: string, sessionId: string): CliError {
  const { message, code } = describeError(error);
  const mayRunOn =
    sessionId === "" ? "The command may have been started" : `The command may run on; \`${attachLine(sprite, sessionId)}\` shows it`;
  return new CliError(message, { hint: `${mayRunOn}; the input already sent is too much to be sent again.`, code, cause: error });
}
