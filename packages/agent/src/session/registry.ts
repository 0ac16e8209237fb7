/** The sessions of this agent by id. They outlive every link and every inner environment. */
import type { SessionStart } from "@sprited/protocol/guest";
import { GUEST_LIMITS, type GuestErrorCode, type GuestSession } from "@sprited/protocol/guest";
import type { ProcessTable } from "../spawn/process-table.ts";
import type { Command } from "../spawn/spawner.ts";
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
  readonly #processes: ProcessTable;

  constructor(processes: ProcessTable) {
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

  isReserved(id: string): boolean {
    return this.#sessions.has(id);
  }

  /** Makes `command` the session of a reserved id; kills it when the id was deleted meanwhile. */
  begin(id: string, start: SessionStart, command: Command): Session | undefined {
    if (!this.#sessions.has(id)) {
      command.killAll();
      return undefined;
    }
    const session = new Session(id, start, command, this.#processes);
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
      const { start } = session;
      const work =
        "connect" in start
          ? { argv: [], connect: start.connect, tty: false }
          : { argv: start.argv.slice(0, LISTED_WORDS).map((word) => word.slice(0, LISTED_WORD_LENGTH)), tty: start.tty !== null };
      list.push({
        id,
        ...work,
        ...(session.size ? { size: session.size } : {}),
        pid: session.pid,
        started_at_ms: session.startedAtMs,
        stdout_bytes: stdout,
        stderr_bytes: stderr,
        kept_from: session.keptFrom,
        exit: session.exit ?? null,
      });
    }
    return list;
  }
}
