/** The exec feature: starts sessions, remembers those that run, forgets them in the guest when they have ended. */
import { ignore, type Logger, sleep } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import type { SessionStart } from "@sprited/protocol/guest";
import { VmmError } from "@sprited/vmm";
import { GuestError, type GuestLink } from "../guest/index.ts";
import type { Machine } from "../machine/index.ts";
import type { Exec, ExecRequest, ExecSession, SessionEnd } from "./exec.ts";
import { Session } from "./session.ts";

/** Sessions that may run in one sprite at once. */
const SESSIONS_PER_SPRITE_MAX = 1_000;
/** Ended sessions that can still be found, of all sprites. */
const ENDED_SESSIONS_MAX = 32;
/** An accepted command's first answer, ms; the sprite is awake by then. */
const START_TIMEOUT_MS = 30_000;
/** How long after a broken link a VM's end is still taken as its cause, ms. */
const GONE_WITHIN_MS = 500;
/** How long a non-terminal command found after a restart runs on without a client, ms (EXEC-7). */
const RUN_AFTER_DISCONNECT_MS = 10_000;

/** What exec needs of the sprite hub. */
export interface ExecSprites {
  /** The id of a visible sprite; throws `sprite_not_found`. */
  idOf(organizationId: string, name: string): string;
  /** The running machine, woken if need be. */
  wakeMachine(spriteId: string, options: { signal?: AbortSignal | undefined }): Promise<Machine>;
}

export class Sessions implements Exec {
  readonly #sprites: ExecSprites;
  readonly #logger: Logger;
  readonly #bySprite = new Map<string, Map<string, Session>>();
  /** The last sessions that ended, oldest first: found by id, no longer listed. */
  #ended: { spriteId: string; session: Session }[] = [];
  #lastId = 0;

  constructor(options: { sprites: ExecSprites; logger: Logger }) {
    this.#sprites = options.sprites;
    this.#logger = options.logger;
  }

  async start(
    organizationId: string,
    spriteName: string,
    request: ExecRequest,
    options: { signal?: AbortSignal } = {},
  ): Promise<ExecSession> {
    const spriteId = this.#sprites.idOf(organizationId, spriteName);
    if (this.#of(spriteId).size >= SESSIONS_PER_SPRITE_MAX) {
      throw new ApiError("busy", `${SESSIONS_PER_SPRITE_MAX} commands are running in this sprite already`);
    }
    const id = this.#newId();
    const start: SessionStart = {
      argv: request.argv,
      env: request.env,
      dir: request.dir ?? null,
      tty: request.tty ?? null,
      stdin: request.stdin,
    };
    const link = await this.#wakeLink(spriteId, options.signal);
    const stream = await link.guest.startSession(id, start, { signal: options.signal, timeoutMs: START_TIMEOUT_MS });
    const session = this.#add(spriteId, link.machine, {
      id,
      command: request.argv.join(" "),
      workdir: request.dir ?? "",
      tty: request.tty !== undefined,
      createdAtMs: Date.now(),
      runAfterDisconnectMs: request.runAfterDisconnectMs,
    });
    session.follow(stream);
    return session;
  }

  /**
   * A link to an awake sprite. A VM that turns out to be dying is woken once more: nothing was
   * asked of it yet, so nothing can run twice (EXEC-9).
   */
  async #wakeLink(spriteId: string, signal: AbortSignal | undefined): Promise<{ machine: Machine; guest: GuestLink }> {
    const first = await this.#sprites.wakeMachine(spriteId, { signal });
    try {
      return { machine: first, guest: await first.link({ signal }) };
    } catch (error) {
      if (!(error instanceof VmmError || error instanceof GuestError) || !(await isGone(first))) throw error;
    }
    const second = await this.#sprites.wakeMachine(spriteId, { signal });
    return { machine: second, guest: await second.link({ signal }) };
  }

  find(organizationId: string, spriteName: string, sessionId: string): ExecSession | undefined {
    const spriteId = this.#sprites.idOf(organizationId, spriteName);
    const running = this.#of(spriteId).get(sessionId);
    return running ?? this.#ended.find((one) => one.spriteId === spriteId && one.session.id === sessionId)?.session;
  }

  list(organizationId: string, spriteName: string): ExecSession[] {
    return [...this.#of(this.#sprites.idOf(organizationId, spriteName)).values()];
  }

  /** Finds the sessions of a VM that outlived a daemon (EXEC-11). */
  async adopt(spriteId: string, machine: Machine): Promise<void> {
    const link = await machine.link();
    for (const found of await link.listSessions()) {
      const stream = await link.attachSession(found.id, { stdout: 0, stderr: 0 });
      const session = this.#add(spriteId, machine, {
        id: found.id,
        command: found.argv.join(" "),
        workdir: "",
        tty: found.tty,
        createdAtMs: found.started_at_ms,
        runAfterDisconnectMs: found.tty ? undefined : RUN_AFTER_DISCONNECT_MS,
      });
      session.adopt(stream);
    }
  }

  #add(
    spriteId: string,
    machine: Machine,
    fields: { id: string; command: string; workdir: string; tty: boolean; createdAtMs: number; runAfterDisconnectMs: number | undefined },
  ): Session {
    const sessions = this.#of(spriteId);
    const session = new Session({
      ...fields,
      machine,
      logger: this.#logger,
      onEnd: (end) => {
        sessions.delete(fields.id);
        if (sessions.size === 0) this.#bySprite.delete(spriteId);
        this.#ended = [...this.#ended, { spriteId, session }].slice(-ENDED_SESSIONS_MAX);
        this.#forget(machine, fields.id, end);
      },
    });
    sessions.set(fields.id, session);
    this.#bySprite.set(spriteId, sessions);
    return session;
  }

  /** The agent keeps an ended session until told; a VM that is gone has nothing to forget. */
  #forget(machine: Machine, sessionId: string, end: SessionEnd): void {
    if (end.kind === "lost" && end.code === "vm_lost") return;
    void machine
      .link()
      .then((link) => link.deleteSession(sessionId))
      .catch(ignore("the VM ended, and the session with it"));
  }

  #of(spriteId: string): Map<string, Session> {
    return this.#bySprite.get(spriteId) ?? new Map<string, Session>();
  }

  /** Decimal, unique over daemon restarts as long as the clock does not run backwards past one. */
  #newId(): string {
    this.#lastId = Math.max(this.#lastId + 1, Date.now() * 1000);
    return String(this.#lastId);
  }
}

/** Whether the VM is gone, or goes within a moment: its link breaks before its process is reaped. */
async function isGone(machine: Machine): Promise<boolean> {
  return await Promise.race([machine.exited.then(() => true), sleep(GONE_WITHIN_MS).then(() => false)]);
}
