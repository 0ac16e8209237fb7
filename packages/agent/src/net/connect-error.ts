/** Why no connection came about, in the words of CONN-2. */
import type { ConnectFailure } from "@sprited/protocol/guest";

export class ConnectError extends Error {
  override readonly name = "ConnectError";
  readonly reason: ConnectFailure;
  constructor(reason: ConnectFailure, options?: { cause?: unknown }) {
    super(reason, options);
    this.reason = reason;
  }
}

const REASONS: Record<string, ConnectFailure> = {
  ECONNREFUSED: "refused",
  ECONNRESET: "refused",
  ETIMEDOUT: "timeout",
  EHOSTUNREACH: "no_route",
  ENETUNREACH: "no_route",
  EADDRNOTAVAIL: "no_route",
  EACCES: "forbidden",
  EPERM: "forbidden",
};

/** What a failed attempt was, from its error's code. */
export function connectErrorOf(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  return new ConnectError(REASONS[String((error as NodeJS.ErrnoException).code)] ?? "failed", { cause: error });
}
