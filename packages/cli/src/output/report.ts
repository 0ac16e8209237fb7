/**
 * Turns whatever went wrong into one or two lines on standard error (CLI-8).
 *
 * Invariants: the first line says what was wrong, the second what to do; texts of a server are
 * shown without control characters; no token is ever printed.
 */
import { ConnectionError } from "@sprited/protocol/client/errors";
import { ApiError, type ErrorCode, ERRORS } from "@sprited/protocol/errors";
import { CliError, EXIT_FAILURE } from "./cli-error.ts";
import { err } from "./style.ts";
import { printable } from "./text-width.ts";

/** Hints that say it in commands; the registry's own speak of the API. */
const HINTS: Partial<Record<ErrorCode, string>> = {
  unauthorized: "Log in again: `sprite login`, or correct SPRITE_TOKEN.",
  token_revoked: "Ask an administrator for a new token, then `sprite login`.",
  forbidden: "Log in with a token that has this right.",
  not_found: "Check the name; `sprite list` shows the sprites there are.",
  sprite_not_found: "`sprite list` shows the sprites there are, `sprite create NAME` makes one.",
  sprite_name_taken: "Choose another name, or `sprite destroy` the one that has it.",
  job_not_found: "`sprite jobs list` shows those that are kept.",
  session_not_found: "`sprite attach` without an id shows the sessions that run.",
  file_not_found: "Check the path; relative ones begin at the sprite's home.",
  file_forbidden: "The sprite's user may not do this; root may: `sprite exec -- sudo …`.",
  not_ready: "The server is starting; try again in a moment.",
};

interface Facts {
  message: string;
  hint: string | undefined;
  code: string;
  exitCode: number;
}

/** Prints `error` to standard error and returns the exit code for it. */
export function reportError(error: unknown, options: { json: boolean }): number {
  const facts = describeError(error);
  const text = options.json
    ? JSON.stringify({ error: facts.code, message: facts.message, ...(facts.hint === undefined ? {} : { hint: facts.hint }) })
    : `${err("red", "error:")} ${facts.message}${facts.hint === undefined ? "" : `\n${err("dim", facts.hint)}`}`;
  process.stderr.write(`${text}\n`);
  return facts.exitCode;
}

/** What to say about `error`. Pure. */
export function describeError(error: unknown): Facts {
  if (error instanceof CliError) return { message: printable(error.message), hint: error.hint, code: error.code, exitCode: error.exitCode };
  if (ApiError.is(error)) {
    return {
      message: sentence(typeof error.details["path"] === "string" ? `${error.message}: ${error.details["path"]}` : error.message),
      hint: HINTS[error.code] ?? ERRORS[error.code].hint,
      code: error.code,
      exitCode: EXIT_FAILURE,
    };
  }
  if (error instanceof ConnectionError) {
    const { why, hint } = connectionFacts(error);
    return {
      message: sentence(`${error.message}${why === undefined ? "" : `: ${why}`}`),
      hint,
      code: `connection_${error.code}`,
      exitCode: EXIT_FAILURE,
    };
  }
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return {
    message: printable(`unexpected ${text}`),
    hint: "This is a fault of the sprite command; please report it.",
    code: "internal",
    exitCode: EXIT_FAILURE,
  };
}

/** Why there was no connection, from the codes of Node's network errors. */
function connectionFacts(error: ConnectionError): { why: string | undefined; hint: string | undefined } {
  if (error.code === "timeout") return { why: undefined, hint: "Try again; if it stays, look at the server's log." };
  if (error.code === "bad_answer") return { why: undefined, hint: "Check the API URL: `sprite org list` shows it." };
  if (error.code === "gave_up") return { why: undefined, hint: "Check the network and the server, then run `sprite attach`." };
  if (error.code === "session_gone") return { why: undefined, hint: "How the command ended cannot be learned; look at what it did." };
  if (error.code === "closed") return { why: undefined, hint: "Try again." };
  switch (networkCode(error)) {
    case "ECONNREFUSED":
      return { why: "nothing listens there", hint: "Start the server with `npx sprited serve`, or choose another with SPRITES_API_URL." };
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return { why: "the host name is not known", hint: "Check the API URL: `sprite org list` shows it." };
    case "ECONNRESET":
    case "EPIPE":
      return { why: "the connection was cut", hint: "Try again." };
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "ETIMEDOUT":
      return { why: "the host does not answer", hint: "Check the network and the API URL." };
    case undefined:
      return { why: undefined, hint: "Check the API URL: `sprite org list` shows it." };
    default:
      return { why: networkCode(error), hint: "Check the API URL, and the server's certificate if it uses https." };
  }
}

function networkCode(error: unknown): string | undefined {
  for (let cause = error, depth = 0; cause instanceof Error && depth < 8; cause = cause.cause, depth++) {
    const code = (cause as { code?: unknown }).code;
    if (typeof code === "string" && /^[A-Z][A-Z_0-9]+$/.test(code)) return code;
    const inner = cause instanceof AggregateError ? cause.errors.find((one: unknown) => networkCode(one) !== undefined) : undefined;
    if (inner !== undefined) return networkCode(inner);
  }
  return undefined;
}

function sentence(text: string): string {
  const clean = printable(text).trim();
  const capital = clean.charAt(0).toUpperCase() + clean.slice(1);
  return /[.!?…]$/.test(capital) ? capital : `${capital}.`;
}
