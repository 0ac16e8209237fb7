/**
 * Starts under a key of the client's choice (EXEC-26): however often a request comes, its command
 * is started once.
 *
 * Invariants: between the look for the key and the note that its start is under way nothing is
 * awaited; such a start belongs to nobody who asks: it goes on when they leave; a key is free again
 * only when it is certain that its command did not run.
 */
import { createHash } from "node:crypto";
import { ApiError } from "@sprited/protocol/errors";
import type { ExecRequest, ExecSession } from "./exec.ts";
import type { Session } from "./session.ts";

/** How long a start may take when nobody's patience ends it, ms. */
const START_MS = 180_000;

export interface KeyedStartOptions {
  /** Starts the command for good; the signal is not the client's. */
  begin(spriteId: string, request: ExecRequest, start: StartKey, signal: AbortSignal): Promise<Session>;
  /** The record of what a key has started so far. */
  find(spriteId: string, key: string): { id: string; start?: StartKey | undefined } | undefined;
  running(spriteId: string, sessionId: string): Session | undefined;
  ended(spriteId: string, sessionId: string): ExecSession | undefined;
  wake(spriteId: string, signal: AbortSignal): Promise<unknown>;
}

export interface StartKey {
  key: string;
  /** Hex SHA-256 of the request. */
  hash: string;
}

interface Underway {
  hash: string;
  done: Promise<Session>;
  /** Requests that wait for it. */
  waiting: number;
}

export class KeyedStarts {
  readonly #options: KeyedStartOptions;
  readonly #underway = new Map<string, Underway>();
  readonly #closing = new AbortController();

  constructor(options: KeyedStartOptions) {
    this.#options = options;
  }

  /** The session that the key started, or starts now. Throws `idempotency_key_reused` and what `begin` throws. */
  async start(spriteId: string, key: string, request: ExecRequest, signal: AbortSignal): Promise<ExecSession> {
    const start = { key, hash: requestHash(request) };
    for (;;) {
      const place = `${spriteId}/${key}`;
      const underway = this.#underway.get(place);
      if (underway) return await this.#join(underway, start, signal);
      const found = this.#options.find(spriteId, key);
      if (!found) return await this.#join(this.#begin(place, spriteId, request, start), start, signal);
      requireSame(found.start?.hash, start, found.id);
      const session = await this.#known(spriteId, key, found.id, signal);
      if (session) return session;
    }
  }

  /** Starts that are under way are left to the next daemon. */
  close(): void {
    this.#closing.abort(new ApiError("shutting_down", "the server is stopping"));
  }

  get isClosing(): boolean {
    return this.#closing.signal.aborted;
  }

  #begin(place: string, spriteId: string, request: ExecRequest, start: StartKey): Underway {
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(START_MS)]);
    const done = this.#options.begin(spriteId, request, start, signal);
    const underway: Underway = { hash: start.hash, done, waiting: 0 };
    this.#underway.set(place, underway);
    const over = (): void => void this.#underway.delete(place);
    done.then((session) => {
      over();
      // Nobody is there to attach: as if its client had vanished, so that it does not run on for ever.
      if (underway.waiting === 0) session.clientsLost();
    }, over);
    return underway;
  }

  async #join(underway: Underway, start: StartKey, signal: AbortSignal): Promise<Session> {
    requireSame(underway.hash, start);
    underway.waiting += 1;
    try {
      return await orAborted(underway.done, signal);
    } finally {
      underway.waiting -= 1;
    }
  }

  /** A session on record; undefined when its command turns out not to have been started. */
  async #known(spriteId: string, key: string, id: string, signal: AbortSignal): Promise<ExecSession | undefined> {
    const { running, ended, wake, find } = this.#options;
    const session = running(spriteId, id);
    if (session && !session.isBegun && !session.end) {
      await wake(spriteId, signal);
      await orAborted(session.inputKnown, signal);
      if (!session.isBegun) await orAborted(session.ended, signal);
    }
    const known = session ?? ended(spriteId, id);
    if (!known) throw new ApiError("not_ready", "the session that this key started is not known yet");
    return find(spriteId, key)?.id === id ? known : undefined;
  }
}

/** Hex SHA-256 that is the same for the same request; the key does not count. */
function requestHash({ work, runAfterDisconnectMs }: ExecRequest): string {
  const sorted = work.kind === "command" ? { ...work, env: Object.entries(work.env).sort(([a], [b]) => (a < b ? -1 : 1)) } : work;
  return createHash("sha256")
    .update(JSON.stringify([sorted, runAfterDisconnectMs]))
    .digest("hex");
}

function requireSame(hash: string | undefined, start: StartKey, sessionId?: string): void {
  if (hash === start.hash) return;
  throw new ApiError("idempotency_key_reused", "the start key belongs to a session that was started with another request", {
    details: { field: "start_key", ...(sessionId === undefined ? {} : { session_id: sessionId }) },
  });
}

async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
