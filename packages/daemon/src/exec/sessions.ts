/** The exec feature: starts sessions, remembers those that run, forgets them in the guest when they have ended. */
import { ignore, type Logger, sleep } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import type { SessionStart } from "@sprited/protocol/guest";
import { VmmError } from "@sprited/vmm";
import { GuestError, type GuestLink } from "../guest/index.ts";
import type { Activities, GuestLife } from "../sprite/index.ts";
import type { Exec, ExecRequest, ExecSession, ExecWork, SessionEnd } from "./exec.ts";
import { MemoryLog } from "./log/index.ts";
import { Session, type SessionFacts } from "./session.ts";

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
  /** The sprite's life, after waking it if need be. */
  wakeLife(spriteId: string, options?: { signal?: AbortSignal | undefined }): Promise<GuestLife>;
  readonly activities: Activities;
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
    const facts = this.#factsOf(spriteId, request);
    const link = await this.#wakeLink(spriteId, options.signal);
    const stream = await link.guest.startSession(facts.id, startOf(request.work), { signal: options.signal, timeoutMs: START_TIMEOUT_MS });
    const session = this.#add(facts, link.life, { inputKnown: true });
    session.follow(stream);
    return session;
  }

  /**
   * A link to an awake sprite. A VM that turns out to be dying is woken once more: nothing was
   * asked of it yet, so nothing can run twice (EXEC-9).
   */
  async #wakeLink(spriteId: string, signal: AbortSignal | undefined): Promise<{ life: GuestLife; guest: GuestLink }> {
    const first = await this.#sprites.wakeLife(spriteId, { signal });
    try {
      return { life: first, guest: await first.link({ signal }) };
    } catch (error) {
      if (!(error instanceof VmmError || error instanceof GuestError) || !(await isGone(first))) throw error;
    }
    const second = await this.#sprites.wakeLife(spriteId, { signal });
    return { life: second, guest: await second.link({ signal }) };
  }

  find(organizationId: string, spriteName: string, sessionId: string): ExecSession | undefined {
    const spriteId = this.#sprites.idOf(organizationId, spriteName);
    const running = this.#of(spriteId).get(sessionId);
    return running ?? this.#ended.find((one) => one.spriteId === spriteId && one.session.id === sessionId)?.session;
  }

  list(organizationId: string, spriteName: string): ExecSession[] {
    return [...this.#of(this.#sprites.idOf(organizationId, spriteName)).values()].filter((one) => one.owner === "session");
  }

  async forget(spriteId: string, sessionId: string): Promise<void> {
    this.#ended = this.#ended.filter((one) => one.spriteId !== spriteId || one.session.id !== sessionId);
  }

  /** Finds the sessions of a VM that outlived a daemon (EXEC-11). */
  async adopt(spriteId: string, life: GuestLife): Promise<void> {
    const link = await life.link();
    for (const found of await link.listSessions()) {
      const facts: SessionFacts = {
        id: found.id,
        spriteId,
        owner: "session",
        command: found.argv.join(" "),
        argv: found.argv,
        workdir: "",
        size: found.tty ? { cols: 80, rows: 24 } : undefined,
        createdAtMs: found.started_at_ms,
        runAfterDisconnectMs: found.tty ? undefined : RUN_AFTER_DISCONNECT_MS,
      };
      const session = this.#add(facts, life, { inputKnown: false });
      session.follow(undefined);
      session.withoutClient();
    }
  }

  #factsOf(spriteId: string, request: ExecRequest): SessionFacts {
    const { work } = request;
    const isCommand = work.kind === "command";
    return {
      id: request.id ?? this.#newId(),
      spriteId,
      owner: request.owner ?? "session",
      command: isCommand ? work.argv.join(" ") : `connect ${work.host}:${work.port}`,
      argv: isCommand ? work.argv : [],
      workdir: (isCommand && work.dir) || "",
      size: isCommand ? work.tty : undefined,
      createdAtMs: Date.now(),
      runAfterDisconnectMs: request.runAfterDisconnectMs,
    };
  }

  #add(facts: SessionFacts, life: GuestLife, options: { inputKnown: boolean }): Session {
    const { id, spriteId } = facts;
    const sessions = this.#of(spriteId);
    const session: Session = new Session({
      facts,
      life,
      log: new MemoryLog(),
      inputKnown: options.inputKnown,
      activities: this.#sprites.activities,
      wake: () => void this.#sprites.wakeLife(spriteId).catch(ignore("the client's next request says why")),
      onEnd: async (end) => {
        sessions.delete(id);
        if (sessions.size === 0) this.#bySprite.delete(spriteId);
        this.#ended = [...this.#ended, { spriteId, session }].slice(-ENDED_SESSIONS_MAX);
        this.#forget(life, id, end);
      },
      logger: this.#logger,
    });
    sessions.set(id, session);
    this.#bySprite.set(spriteId, sessions);
    return session;
  }

  /** The agent keeps an ended session until told; a life that ended has nothing to forget. */
  #forget(life: GuestLife, sessionId: string, end: SessionEnd): void {
    if (end.kind === "lost" && LIFE_ENDS.has(end.code)) return;
    void life
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

const LIFE_ENDS: ReadonlySet<string> = new Set(["vm_lost", "sprite_stopped", "sprite_restored", "sprite_deleted"]);

/** What the agent is asked to start. */
export function startOf(work: ExecWork): SessionStart {
  if (work.kind === "connection") return { connect: { host: work.host, port: work.port } };
  return { argv: work.argv, env: work.env, dir: work.dir ?? null, tty: work.tty ?? null, stdin: work.stdin };
}

/** Whether the life is over, or ends within a moment: its link breaks before its process is reaped. */
async function isGone(life: GuestLife): Promise<boolean> {
  return await Promise.race([life.ended.then(() => true), sleep(GONE_WITHIN_MS).then(() => false)]);
}
