/**
 * TCP connections into sprites (PROXY-1..8): sessions of a kind of their own, found again by their
 * id when their client lost its WebSocket.
 */
import { after, DeadlineError, ignore, waitFor } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import type { ConnectFailure } from "@sprited/protocol/guest";
import type { Exec, ExecSession } from "../exec/index.ts";
import { connectFailureOf, GuestError } from "../guest/index.ts";

/** How long a connection waits for a client that may come back, ms (PROXY-6). */
const KEPT_MS = 60 * 60_000;
/** How long an ended connection waits for its client to fetch its last bytes, ms (PROXY-6). */
const ENDED_KEPT_MS = 10 * 60_000;
/**
 * How long a client that comes back waits for its connection to be found, ms: after a restart of
 * the daemon the guest must first be asked.
 */
const FOUND_WITHIN_MS = 5_000;
const FIND_EVERY_MS = 50;
/** How long what a client sent last may take to reach the peer after the client has gone, ms (PROXY-4). */
const FLUSH_MS = 10_000;

/** What people read of a failed connection. */
const REASONS: Record<ConnectFailure, string> = {
  refused: "connection refused: nothing listens there",
  timeout: "the address did not answer in time",
  no_route: "the address cannot be reached from the sprite",
  unknown_host: "the sprite does not know that host",
  forbidden: "the sprite's network does not allow it",
  failed: "the connection could not be made",
};

export interface ProxyTarget {
  host: string;
  port: number;
}

export interface ProxyRequestOptions {
  /** Whether it outlives its client. */
  resumable: boolean;
  /** Name of the client's choice for a resumable one: asked for again under it, it is the same connection (PROXY-5). */
  key?: string | undefined;
  signal?: AbortSignal;
}

export class Proxies {
  readonly #exec: Exec;
  readonly #sprites: { idOf(organizationId: string, spriteName: string): string };
  /** Resumable connections by id, also for a while after their end. */
  readonly #resumable = new Map<string, ExecSession>();
  /** Resumable connections by sprite and their client's key, also while they are being made. */
  readonly #keyed = new Map<string, Promise<ExecSession>>();

  constructor(options: { exec: Exec; sprites: { idOf(organizationId: string, spriteName: string): string } }) {
    this.#exec = options.exec;
    this.#sprites = options.sprites;
  }

  /** Connects from inside the sprite. Throws `ApiError`; `target_unreachable` says why in its message. */
  async connect(organizationId: string, spriteName: string, target: ProxyTarget, options: ProxyRequestOptions): Promise<ExecSession> {
    if (!options.resumable || options.key === undefined) return await this.#connect(organizationId, spriteName, target, options);
    const place = `${this.#sprites.idOf(organizationId, spriteName)}/${options.key}`;
    for (let known = this.#keyed.get(place); known; known = this.#keyed.get(place)) {
      const session = await known.catch(ignore("whoever asked for it left before it was made"));
      if (session) return session;
    }
    const made = this.#connect(organizationId, spriteName, target, options);
    this.#keyed.set(place, made);
    const forget = (): void => void this.#keyed.delete(place);
    made.then((session) => session.ended.then(() => after(ENDED_KEPT_MS, forget)), forget);
    return await made;
  }

  async #connect(organizationId: string, spriteName: string, target: ProxyTarget, options: ProxyRequestOptions): Promise<ExecSession> {
    try {
      const session = await this.#exec.start(
        organizationId,
        spriteName,
        {
          work: { kind: "connection", host: target.host, port: target.port },
          runAfterDisconnectMs: options.resumable ? KEPT_MS : FLUSH_MS,
          owner: "proxy",
        },
        options.signal ? { signal: options.signal } : {},
      );
      if (options.resumable) this.#keep(session);
      return session;
    } catch (error) {
      const refused = guestErrorIn(error);
      if (refused?.code !== "guest_unreachable") throw error;
      throw new ApiError("target_unreachable", REASONS[connectFailureOf(refused)], { cause: error });
    }
  }

  /** A connection whose client comes back. Throws `ApiError` `session_not_found`. */
  async resume(
    organizationId: string,
    spriteName: string,
    sessionId: string,
    options: { signal?: AbortSignal } = {},
  ): Promise<ExecSession> {
    const spriteId = this.#sprites.idOf(organizationId, spriteName);
    const find = (): ExecSession | undefined => {
      const session = this.#exec.find(organizationId, spriteName, sessionId) ?? this.#resumable.get(sessionId);
      return session?.owner === "proxy" && session.spriteId === spriteId ? session : undefined;
    };
    try {
      const session = await waitFor("the connection", { timeoutMs: FOUND_WITHIN_MS, everyMs: FIND_EVERY_MS, ...options }, find);
      this.#keep(session);
      return session;
    } catch (error) {
      if (!(error instanceof DeadlineError)) throw error;
      throw new ApiError("session_not_found", "the connection is not known any more", { cause: error });
    }
  }

  /** The client has all of an ended connection. */
  forget(session: ExecSession): void {
    if (session.end) this.#resumable.delete(session.id);
  }

  #keep(session: ExecSession): void {
    if (this.#resumable.has(session.id)) return;
    this.#resumable.set(session.id, session);
    void session.ended.then(() => after(ENDED_KEPT_MS, () => this.#resumable.delete(session.id)));
  }
}

function guestErrorIn(error: unknown): GuestError | undefined {
  for (let at = error; at instanceof Error; at = at.cause) if (at instanceof GuestError) return at;
  return undefined;
}
