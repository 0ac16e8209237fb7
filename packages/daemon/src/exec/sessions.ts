/**
 * The exec feature: starts sessions, follows those that run, keeps those that ended, and finds
 * them all again after a restart.
 *
 * Order of a session: record → started in the guest → … → log flushed → end recorded → forgotten
 * in the guest. A daemon that dies in between finds at its next start what is missing.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { every, ignore, type Logger, sleep } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import type { SessionStart } from "@sprited/protocol/guest";
import { VmmError } from "@sprited/vmm";
import { GuestError, type GuestLink } from "../guest/index.ts";
import type { Activities, GuestLife } from "../sprite/index.ts";
import type { SessionRecord, SessionRecords } from "../store/index.ts";
import { EndedSession } from "./ended-session.ts";
import type { Exec, ExecRequest, ExecSession, ExecWork, SessionEnd } from "./exec.ts";
import { FileLog, MemoryLog, type SessionLog } from "./log/index.ts";
import { expiredSessions, type RetentionLimits } from "./retention.ts";
import { Session, type SessionFacts } from "./session.ts";
import { factsOf, startOf } from "./session-facts.ts";
import { reclaimLogs } from "./reclaim-logs.ts";
import { Turns } from "./turns.ts";

/** Sessions that may run in one sprite at once. */
const SESSIONS_PER_SPRITE_MAX = 1_000;
/** An accepted command's first answer, ms; the sprite is awake by then. */
const START_TIMEOUT_MS = 30_000;
/** How long after a broken link a VM's end is still taken as its cause, ms. */
const GONE_WITHIN_MS = 500;
/** Logs flushed at the same time: a burst of ends must not fill the disk's queue. */
const FLUSHES_MAX = 4;
/** How often what retention does not keep is removed, and how often ages are looked at, ms. */
const RETENTION_EVERY_MS = 5_000;
const AGES_EVERY_MS = 3_600_000;

/** What exec needs of the sprite hub. */
export interface ExecSprites {
  /** The id of a visible sprite; throws `sprite_not_found`. */
  idOf(organizationId: string, name: string): string;
  /** The sprite's life, after waking it if need be. */
  wakeLife(spriteId: string, options?: { signal?: AbortSignal | undefined }): Promise<GuestLife>;
  readonly activities: Activities;
  subscribe(listener: (sprite: { id: string }, change: "changed" | "deleted") => void): () => void;
}

export interface ExecSettings {
  /** Directory with the logs, one directory per sprite. */
  logDirectory: string;
  /** Bound of one session's log, bytes. */
  logBytesMax: number;
  retention: RetentionLimits;
}

export class Sessions implements Exec {
  readonly #sprites: ExecSprites;
  readonly #records: SessionRecords;
  readonly #settings: ExecSettings;
  readonly #logger: Logger;
  /** Sessions that run, or whose end is being recorded. */
  readonly #bySprite = new Map<string, Map<string, Session>>();
  readonly #flushes = new Turns(FLUSHES_MAX);
  /** Sprites in which a session ended since retention was last looked at. */
  readonly #endedIn = new Set<string>();
  readonly #timers = new DisposableStack();
  #lastId = 0;

  constructor(options: { sprites: ExecSprites; records: SessionRecords; settings: ExecSettings; logger: Logger }) {
    this.#sprites = options.sprites;
    this.#records = options.records;
    this.#settings = options.settings;
    this.#logger = options.logger;
    this.#timers.defer(
      this.#sprites.subscribe((sprite, change) => {
        if (change === "deleted") this.#spriteDeleted(sprite.id);
      }),
    );
    this.#timers.use(every(RETENTION_EVERY_MS, () => this.#retain([...this.#endedIn])));
    this.#timers.use(every(AGES_EVERY_MS, () => this.#retain(new Set(this.#records.keys().map(({ spriteId }) => spriteId)))));
  }

  async start(
    organizationId: string,
    spriteName: string,
    request: ExecRequest,
    options: { signal?: AbortSignal } = {},
  ): Promise<ExecSession> {
    const spriteId = this.#sprites.idOf(organizationId, spriteName);
    if ((this.#bySprite.get(spriteId)?.size ?? 0) >= SESSIONS_PER_SPRITE_MAX) {
      throw new ApiError("busy", `${SESSIONS_PER_SPRITE_MAX} commands are running in this sprite already`);
    }
    const { life, guest } = await this.#wakeLink(spriteId, options.signal);
    const facts = factsOf(spriteId, request, { id: request.id ?? this.#newId(), nowMs: Date.now() });
    const log = isKept(facts) ? new FileLog(this.#logOptions(facts)) : new MemoryLog();
    const session = this.#add(facts, { life, log, inputKnown: true });
    if (isKept(facts)) this.#records.insert(recordOf(facts, life.id));
    try {
      const stream = await guest.startSession(facts.id, startOf(request.work), { signal: options.signal, timeoutMs: START_TIMEOUT_MS });
      session.follow(stream);
      return session;
    } catch (error) {
      // It may have begun: it is ended for good, never started again (EXEC-9).
      await this.forget(spriteId, facts.id);
      this.#forgetInGuest(life, facts.id);
      throw error;
    }
  }

  find(organizationId: string, spriteName: string, sessionId: string): ExecSession | undefined {
    const spriteId = this.#sprites.idOf(organizationId, spriteName);
    const running = this.#bySprite.get(spriteId)?.get(sessionId);
    if (running) return running;
    const record = this.#records.find(spriteId, sessionId);
    return record && this.#endedSession(record);
  }

  list(organizationId: string, spriteName: string, options: { ended?: boolean } = {}): ExecSession[] {
    const spriteId = this.#sprites.idOf(organizationId, spriteName);
    const live = [...(this.#bySprite.get(spriteId)?.values() ?? [])].filter((one) => one.owner === "session");
    if (!options.ended) return live.filter((one) => !one.end);
    const ended = this.#records.listEnded(spriteId).filter(({ id }) => !live.some((one) => one.id === id));
    return [...ended.flatMap((record) => this.#endedSession(record) ?? []), ...live].sort((a, b) => a.createdAtMs - b.createdAtMs);
  }

  async forget(spriteId: string, sessionId: string): Promise<void> {
    const session = this.#bySprite.get(spriteId)?.get(sessionId);
    this.#records.delete(spriteId, sessionId);
    this.#remove(spriteId, sessionId);
    if (session) await session.abandon();
    await fs.rm(this.#directory(spriteId, sessionId), { recursive: true, force: true });
  }

  /**
   * Settles what an earlier daemon left (EXEC-11): sessions whose life goes on are followed again,
   * the others are lost; logs that no record names are removed. `lives`: those that go on, by sprite.
   */
  async recover(lives: ReadonlyMap<string, GuestLife>, spriteIds: ReadonlySet<string>): Promise<void> {
    for (const spriteId of new Set(this.#records.keys().map((key) => key.spriteId))) {
      if (!spriteIds.has(spriteId)) this.#records.deleteOfSprite(spriteId);
    }
    await reclaimLogs(this.#settings.logDirectory, this.#records.keys(), this.#logger);
    for (const record of this.#records.loadRunning()) {
      const { end: _, lifeId, ...facts } = record;
      const log = await FileLog.reopen(this.#logOptions(record));
      const life = lives.get(record.spriteId);
      if (life?.id === lifeId) {
        const session = this.#add(facts, { life, log, inputKnown: false });
        session.follow(undefined);
        session.clientsLost();
      } else this.#recordEnd(facts, log, { end: LOST_MEANWHILE, endedAtMs: Date.now(), lastOutputAtMs: record.createdAtMs, inputTaken: 0 });
    }
    for (const [spriteId, life] of lives) void this.#tidyGuest(spriteId, life).catch(ignore("done again at the next start"));
    this.#retain(spriteIds);
  }

  /** Lets go of every session; commands run on in their guests. */
  async close(): Promise<void> {
    this.#timers.dispose();
    for (const sessions of this.#bySprite.values()) for (const session of sessions.values()) session.detach();
    await this.#flushes.idle();
  }
