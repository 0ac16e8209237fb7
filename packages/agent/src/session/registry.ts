/** The sessions of this agent by id. They outlive every link and every inner environment. */
import type { SessionStart } from "@sprited/protocol/guest";
import { GUEST_LIMITS, type GuestErrorCode, type GuestSession } from "@sprited/protocol/guest";
import type { ProcessTable } from "../spawn/process-table.ts";
import type { Spawner } from "../spawn/spawner.ts";
import { Session } from "./session.ts";

/** Words of argv shown in the list, and characters of each. */
const LISTED_WORDS = 16;
const LISTED_WORD_LENGTH = 64;

/** A request that cannot be done, as the host is told (LINK-4). */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
  readonly code: GuestErrorCode;
  constructor(code: GuestErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

export class SessionRegistry {
  readonly #sessions = new Map<string, Session | undefined>();
  readonly #spawner: Spawner;
  readonly #processes: ProcessTable;

  constructor(spawner: Spawner, processes: ProcessTable) {
    this.#spawner = spawner;
    this.#processes = processes;
  }

  get size(): number {
    return this.#sessions.size;
  }

  /** Takes an id for a session to come. Throws `RefusedError` `exists` or `busy`. */
  reserve(id: string): void {
    if (this.#sessions.has(id)) throw new RefusedError("exists", `session ${id} exists already`);
    if (this.#sessions.size >= GUEST_LIMITS.sessionsMax)
      throw new RefusedError("busy", `${GUEST_LIMITS.sessionsMax} sessions are held: delete ended ones first`);
    this.#sessions.set(id, undefined);
  }

  /** Gives a reserved id back when its session could not be started. */
  release(id: string): void {
    if (this.#sessions.get(id) === undefined) this.#sessions.delete(id);
  }

  /** Starts the command of a reserved id. Throws what `Spawner.start` throws; undefined when the id was deleted meanwhile. */
  start(id: string, start: SessionStart, environment: Readonly<Record<string, string>>): Session | undefined {
    if (!this.#sessions.has(id)) return undefined;
    const session = new Session(id, start, this.#spawner.start(start, environment), this.#processes);
    this.#sessions.set(id, session);
    return session;
  }

  find(id: string): Session | undefined {
    return this.#sessions.get(id);
  }

  /** Kills and forgets. A missing one is fine. */
  delete(id: string): void {
    this.#sessions.get(id)?.forget();
    this.#sessions.delete(id);
  }

  /** Forgets every session. */
  clear(): void {
    for (const id of this.#sessions.keys()) this.delete(id);
  }

  list(): GuestSession[] {
    const list: GuestSession[] = [];
    for (const [id, session] of this.#sessions) {
      if (!session) continue;
      const { stdout, stderr } = session.outputBytes;
      list.push({
        id,
        argv: session.start.argv.slice(0, LISTED_WORDS).map((word) => word.slice(0, LISTED_WORD_LENGTH)),
        tty: session.start.tty !== null,
        pid: session.pid,
        started_at_ms: session.startedAtMs,
        stdout_bytes: stdout,
        stderr_bytes: stderr,
        exit: session.exit ?? null,
      });
    }
    return list;
  }
}
