/**
 * Begins a command exactly once over links that may break (EXEC-9). The agent takes an id once
 * (SESS-1): after a broken link the same id is started again, and where it turns out to have begun
 * it is attached to.
 */
import { sleep } from "@sprited/base";
import type { SessionStart } from "@sprited/protocol/guest";
import { GuestError, type GuestFault, type GuestLink, type SessionStream } from "../guest/index.ts";
import type { GuestLife } from "../sprite/index.ts";

/** An accepted command's first answer, ms; the sprite is awake by then. */
const START_TIMEOUT_MS = 30_000;
/** Links on which one start is tried. */
const ATTEMPTS_MAX = 5;
/** Pause before another link, ms; doubles. */
const PAUSE_MS = 50;

export interface BeginOptions {
  life: GuestLife;
  /** The link to try first. */
  guest: GuestLink;
  id: string;
  start: SessionStart;
  signal: AbortSignal | undefined;
  /** Whether the life is over: then nothing is tried again. */
  isGone(): Promise<boolean>;
}

/** Answers of the agent by which it says that it started nothing. */
const REFUSED = new Set<GuestFault>(["guest_refused", "guest_inner_failed", "guest_busy", "guest_refused_start"]);

/** True when the guest said that the command was not started. */
export function guestRefused(error: unknown): boolean {
  return error instanceof GuestError && REFUSED.has(error.code);
}

/** The session's stream. Throws what the last attempt threw; whether the command began is not known then. */
export async function beginSession(options: BeginOptions): Promise<SessionStream> {
  const { life, id, start, signal } = options;
  let { guest } = options;
  let mayHaveBegun = false;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await guest.startSession(id, start, { signal, timeoutMs: START_TIMEOUT_MS });
    } catch (error) {
      if (!(error instanceof GuestError) || attempt === ATTEMPTS_MAX) throw error;
      if (mayHaveBegun && error.code === "guest_session_exists") {
        const attached = await attach(guest, id, signal);
        if (attached) return attached;
      } else if (error.code !== "guest_link_lost" || (await options.isGone())) throw error;
      mayHaveBegun = true;
      await sleep(PAUSE_MS * 2 ** (attempt - 1), { signal });
      guest = await life.link({ signal });
    }
  }
}

/** Undefined while the agent has the id but not the session: it is being started, or could not be. */
async function attach(guest: GuestLink, id: string, signal: AbortSignal | undefined): Promise<SessionStream | undefined> {
  try {
    return await guest.attachSession(id, { stdout: 0, stderr: 0 }, { signal });
  } catch (error) {
    if (error instanceof GuestError && (error.code === "guest_session_unknown" || error.code === "guest_link_lost")) return undefined;
    throw error;
  }
}
