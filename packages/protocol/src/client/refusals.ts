/** What a failed attempt to reach a command again means: whether to go on trying. Pure. */
import { ApiError, type ErrorCode } from "../errors.ts";
import { ConnectionError } from "./errors.ts";

/** Statuses of a refusal that waiting may cure. */
const TEMPORARY = new Set([408, 429, 500, 502, 503, 504]);
/** Codes, as read from any server's answer, that say no more than that the path leads nowhere. */
const NO_SUCH_PLACE = new Set<ErrorCode>([
  "not_found",
  "session_not_found",
  "method_not_allowed",
  "websocket_required",
  "body_invalid",
  "not_available_yet",
]);

/** Whether an attempt that failed so may work later. */
export function mayPass(error: unknown): boolean {
  return error instanceof ConnectionError || (ApiError.is(error) && TEMPORARY.has(error.status));
}

/** The answer of a server that takes a repeated start for a path or a session that it does not have. */
export function knowsNoKeys(error: unknown): boolean {
  return ApiError.is(error) && [400, 404, 405, 426, 501].includes(error.status) && NO_SUCH_PLACE.has(error.code);
}

export function gaveUp(afterMs: number, cause: unknown): ConnectionError {
  return new ConnectionError("gave_up", `no connection for ${Math.round(afterMs / 1000)} s`, { cause });
}

/** Why an attempt failed, when trying again makes sense. Throws when it does not. */
export function refusal(error: unknown): unknown {
  if (mayPass(error)) return error;
  if (ApiError.is(error) && (error.status === 404 || error.status === 410))
    throw new ConnectionError("session_gone", "the server does not know the session any more", { cause: error });
  throw error;
}
