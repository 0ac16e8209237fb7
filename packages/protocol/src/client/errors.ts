/** What can go wrong on the way to a server, as opposed to what a server answers (`ApiError`). */

export type ConnectionErrorCode =
  /** No connection: nothing listens, the name does not resolve, TLS failed. */
  | "unreachable"
  /** No answer within the deadline. */
  | "timeout"
  /** The connection ended before the answer was complete. */
  | "closed"
  /** The answer is not of this API. */
  | "bad_answer"
  /** A lost connection did not come back in the time given to it; the command may run on. */
  | "gave_up"
  /** The server does not know the session any more: how the command ended cannot be learned. */
  | "session_gone";

export class ConnectionError extends Error {
  override readonly name = "ConnectionError";
  readonly code: ConnectionErrorCode;
  constructor(code: ConnectionErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
