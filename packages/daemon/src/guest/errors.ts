import { connectFailure, type ConnectFailure } from "@sprited/protocol/guest";

/** Facts a caller can branch on. */
export type GuestFault =
  /** No answer from the agent in time. */
  | "guest_timeout"
  /** The link broke; the VM may live on. */
  | "guest_link_lost"
  /** The agent broke the protocol: garbage, lengths beyond limits, wrong proof. */
  | "guest_protocol"
  /** The agent could not bring the user's Linux up; the message says why. */
  | "guest_inner_failed"
  /** The agent does not know that session. */
  | "guest_session_unknown"
  /** The session exists already. */
  | "guest_session_exists"
  /** The agent refused the request as wrong. */
  | "guest_refused"
  /** The agent did not take over its identity, or does not know the key of this run. */
  | "guest_refused_start"
  /** A connection to a place inside the sprite did not come about; see `connectFailureOf`. */
  | "guest_unreachable"
  /** The agent holds as much as it can. */
  | "guest_busy"
  /** The agent reports a fault of its own. */
  | "guest_failed";

export class GuestError extends Error {
  override readonly name = "GuestError";
  readonly code: GuestFault;
  constructor(code: GuestFault, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** Why a connection inside the sprite failed, when `error` is a `guest_unreachable`; the agent's word for it is its cause. */
export function connectFailureOf(error: GuestError): ConnectFailure {
  const said = connectFailure.safeParse(error.cause instanceof Error ? error.cause.message : undefined);
  return said.success ? said.data : "failed";
}
