/** Errors as HTTP answers: status, headers and body, the same for requests and refused upgrades. */
import { type ApiError, ERRORS } from "@sprited/protocol/errors";

/** Version that clients read to choose how they attach; a plain release means the newest way. */
export const SPRITE_VERSION = "1.0.0";

/** Headers of every answer. */
export function commonHeaders(requestId: string): Record<string, string> {
  return { "sprite-version": SPRITE_VERSION, "x-request-id": requestId };
}

export interface ErrorReply {
  status: number;
  headers: Record<string, string>;
  body: string;
}

/** `allow` lists the methods of a path that does not have the one asked for. */
export function errorReply(error: ApiError, requestId: string, options: { allow?: readonly string[] | undefined } = {}): ErrorReply {
  const headers: Record<string, string> = { ...commonHeaders(requestId), "content-type": "application/json" };
  if (error.retryAfterSeconds !== undefined) headers["retry-after"] = String(error.retryAfterSeconds);
  if (options.allow) headers["allow"] = options.allow.join(", ");
  if (ERRORS[error.code].status === 401) headers["www-authenticate"] = "Bearer";
  if (error.code === "websocket_required") headers["upgrade"] = "websocket";
  // The rest of a body that was refused unread must not be taken for the next request.
  if (error.code === "body_too_large") headers["connection"] = "close";
  const body = error.toBody();
  if (error.status >= 500) body.request_id = requestId;
  return { status: error.status, headers, body: `${JSON.stringify(body)}\n` };
}
