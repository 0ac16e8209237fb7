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
import { VmmError } from "@sprited/vmm";
import pLimit from "p-limit";
import { GuestError, type GuestLink } from "../guest/index.ts";
import type { Activities, GuestLife } from "../sprite/index.ts";
import type { SessionRecord, SessionRecords } from "../store/index.ts";
import { type Adopted, Adoptions } from "./adoptions.ts";
import { beginSession, guestRefused } from "./begin.ts";
import { EndedSession } from "./ended-session.ts";
import type { Exec, ExecRequest, ExecSession, ExecWork, SessionEnd } from "./exec.ts";
import { isUnknownToGuest } from "./follower.ts";
import { isGone } from "./is-gone.ts";
import { KeyedStarts, type StartKey } from "./keyed-starts.ts";
import { ConnectionLog, FileLog, reclaimLogs, type SessionLog } from "./log/index.ts";
import { expiredSessions, type RetentionLimits } from "./retention.ts";
import { guestIdOf, Session, type SessionFacts } from "./session.ts";
import { factsOf, isKept, type KeptFacts, recordOf, startOf } from "./session-facts.ts";
import { FORGOTTEN, LIFE_ENDS, LOST_MEANWHILE, SPRITE_DELETED, START_UNKNOWN } from "./session-ends.ts";

/** Sessions that may run in one sprite at once. */
const SESSIONS_PER_SPRITE_MAX = 1_000;
/** How long a start waits for guests to name their connections, ms; those of sleeping sprites are found when they wake. */
const GUESTS_WAIT_MS = 1_000;
/** How long a command waits for the sessions that came with its sprite's memory to be known, ms. */
const ADOPTION_WAIT_MS = 5_000;
/** How long a connection found after a restart waits for its client, ms. */
const CONNECTION_KEPT_MS = 3_600_000;
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
  /** The life that is kept, awake or asleep; wakes nothing. */
  findLife(spriteId: string): GuestLife | undefined;
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
  readonly #adoptions: Adoptions;
  readonly #keyedStarts: KeyedStarts;
  readonly #flushes = pLimit(FLUSHES_MAX);
  /** Sprites in which a session ended since retention was last looked at. */
  readonly #endedIn = new Set<string>();
  readonly #timers = new DisposableStack();
  #lastId = 0;
  /** What an earlier daemon left is settled: from now on lives that begin are looked at. */
  #isRecovered = false;

  constructor(options: { sprites: ExecSprites; records: SessionRecords; settings: ExecSettings; logger: Logger }) {
    this.#sprites = options.sprites;
    this.#records = options.records;
    this.#settings = options.settings;
    this.#logger = options.logger;
    this.#adoptions = new Adoptions({
      records: this.#records,
      logger: this.#logger,
      newId: () => this.#newId(),
      isFollowed: (spriteId, life, guestId) => this.#isFollowed(spriteId, life, guestId),
      follow: (adopted, life) => this.#followAdopted(adopted, life),
    });
    this.#keyedStarts = new KeyedStarts({
      begin: (spriteId, request, key, signal) => this.#start(spriteId, request, key, signal),
      find: (spriteId, key) => this.#records.findByStartKey(spriteId, key),
      running: (spriteId, id) => this.#bySprite.get(spriteId)?.get(id),
      ended: (spriteId, id) => this.#endedOne(spriteId, id),
      wake: (spriteId, signal) => this.#sprites.wakeLife(spriteId, { signal }),
    });
    this.#timers.defer(() => this.#adoptions.close());
    this.#timers.defer(
      this.#sprites.subscribe((sprite, change) => {
        if (change === "deleted") this.#spriteDeleted(sprite.id);
        else if (this.#isRecovered) void this.#lifeMayBeNew(sprite.id);
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
    const { signal = new AbortController().signal } = options;
    if (request.startKey === undefined) return await this.#start(spriteId, request, undefined, signal);
    return await this.#keyedStarts.start(spriteId, request.startKey, request, signal);
  }

  async #start(spriteId: string, request: ExecRequest, key: StartKey | undefined, signal: AbortSignal): Promise<Session> {
    if ((this.#bySprite.get(spriteId)?.size ?? 0) >= SESSIONS_PER_SPRITE_MAX) {
      throw new ApiError("busy", `${SESSIONS_PER_SPRITE_MAX} commands are running in this sprite already`);
    }
    const { life, guest } = await this.#wakeLink(spriteId, signal);
    const facts = factsOf(spriteId, request, { id: request.id ?? this.#newId(), nowMs: Date.now() });
    if (key) facts.start = key;
    const log = isKept(facts) ? new FileLog(this.#logOptions(facts)) : new ConnectionLog();
    if (isKept(facts)) this.#records.insert(recordOf(facts, life.id));
    const session = this.#add(facts, { life, log, inputKnown: true });
    try {
      const start = startOf(request.work);
      const stream = await beginSession({ life, guest, id: facts.id, start, signal, isGone: () => isGone(life) });
      session.follow(stream);
      if (key) this.#markBegun(spriteId, facts.id);
      return session;
    } catch (error) {
      await this.#notBegun(session, life, key, error);
      throw error;
    }
  }

  #markBegun(spriteId: string, id: string): void {
    try {
      this.#records.markBegun(spriteId, id);
    } catch (error) {
      this.#logger.warn({ event: "exec.start", spriteId, sessionId: id, err: error }, "a start could not be noted");
    }
  }

  /** It may have begun: it is ended for good, never started again (EXEC-9); what is certain about a key is kept (EXEC-26). */
  async #notBegun(session: Session, life: GuestLife, key: StartKey | undefined, error: unknown): Promise<void> {
    if (key && this.#keyedStarts.isClosing) return session.detach();
    if (!key || guestRefused(error)) {
      await this.forget(session.spriteId, session.id);
      this.#forgetInGuest(life, session.guestId);
      return;
    }
    const lifeEnd = await Promise.race([life.ended, Promise.resolve(undefined)]);
    await session.lose(lifeEnd ? { kind: "lost", ...lifeEnd } : START_UNKNOWN);
  }

  find(organizationId: string, spriteName: string, sessionId: string): ExecSession | undefined {
    const spriteId = this.#sprites.idOf(organizationId, spriteName);
    return this.#bySprite.get(spriteId)?.get(sessionId) ?? this.#endedOne(spriteId, sessionId);
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
    if (session) await session.abandon(FORGOTTEN);
    await fs.rm(this.#directory(spriteId, sessionId), { recursive: true, force: true });
  }

  /**
   * Settles what an earlier daemon left (EXEC-11): sessions whose life goes on are followed again,
   * the others are lost; logs that no record names are removed. `lives`: those that go on, by sprite.
   */
  async recover(lives: ReadonlyMap<string, GuestLife>, spriteIds: ReadonlySet<string>): Promise<void> {
    for (const spriteId of new Set([...this.#records.keys().map((key) => key.spriteId), ...this.#records.adoptedSprites()])) {
      if (!spriteIds.has(spriteId)) this.#records.deleteOfSprite(spriteId);
    }
    await reclaimLogs(this.#settings.logDirectory, this.#records.keys(), this.#logger);
    for (const record of this.#records.loadRunning()) {
      const { end: _, lifeId, logStart: start, ...facts } = record;
      const log = await FileLog.reopen({ ...this.#logOptions(record), start });
      const life = lives.get(record.spriteId);
      if (life?.id === lifeId) {
        const session = this.#add(facts, { life, log, inputKnown: false });
        session.follow(undefined);
        session.clientsLost();
      } else this.#recordEnd(facts, log, { end: LOST_MEANWHILE, endedAtMs: Date.now(), lastOutputAtMs: record.createdAtMs, inputTaken: 0 });
    }
    const awake: Promise<void>[] = [];
    for (const [spriteId, life] of lives) {
      const { isAwake } = life;
      // Those that came with the memory are told apart below from what was forgotten.
      if (this.#adoptions.isDue(spriteId, life)) continue;
      const settled = this.#settleGuest(spriteId, life).catch(ignore("done again at the next start"));
      // What sleeps answers when it is woken, by whoever comes after the start.
      if (isAwake) awake.push(settled);
    }
    this.#isRecovered = true;
    for (const spriteId of spriteIds) {
      const adopted = this.#lifeMayBeNew(spriteId);
      if (this.#sprites.findLife(spriteId)?.isAwake && adopted) awake.push(adopted);
    }
    await Promise.race([Promise.all(awake), sleep(GUESTS_WAIT_MS, { ref: false })]);
    this.#retain(spriteIds);
  }

  /** Sessions of every sprite that have not ended. */
  open(): ExecSession[] {
    return [...this.#bySprite.values()].flatMap((sessions) => [...sessions.values()].filter(({ end }) => !end));
  }

  /** Lets go of every session; commands run on in their guests. */
  async close(): Promise<void> {
    this.#timers.dispose();
    this.#keyedStarts.close();
    for (const sessions of this.#bySprite.values()) for (const session of sessions.values()) session.detach();
  }

  /**
   * A link to an awake sprite. A VM that turns out to be dying is woken once more: nothing was
   * asked of it yet, so nothing can run twice (EXEC-9).
   */
  async #wakeLink(spriteId: string, signal: AbortSignal | undefined): Promise<{ life: GuestLife; guest: GuestLink }> {
    const first = await this.#sprites.wakeLife(spriteId, { signal });
    await Promise.race([this.#adoptions.adopt(spriteId, first), sleep(ADOPTION_WAIT_MS, { ref: false })]);
    try {
      return { life: first, guest: await first.link({ signal }) };
    } catch (error) {
      if (!(error instanceof VmmError || error instanceof GuestError) || !(await isGone(first))) throw error;
    }
    const second = await this.#sprites.wakeLife(spriteId, { signal });
    return { life: second, guest: await second.link({ signal }) };
  }

  #add(facts: SessionFacts, parts: { life: GuestLife; log: SessionLog; inputKnown: boolean }): Session {
    const { id, spriteId } = facts;
    const session: Session = new Session({
      facts,
      ...parts,
      inputStore: isKept(facts) ? this.#records.input(spriteId, id) : undefined,
      activities: this.#sprites.activities,
      wake: () => void this.#sprites.wakeLife(spriteId).catch(ignore("the client's next request says why")),
      onResize: (size) => {
        if (isKept(facts)) this.#records.updateSize(spriteId, id, size);
      },
      onEnd: (end) => this.#ended(facts, session, parts, end),
      logger: this.#logger,
    });
    const sessions = this.#bySprite.get(spriteId) ?? new Map<string, Session>();
    this.#bySprite.set(spriteId, sessions.set(id, session));
    return session;
  }

  /** Log on the disk, then the end on record, then the guest may forget (EXEC-13). */
  async #ended(facts: SessionFacts, session: Session, parts: { life: GuestLife; log: SessionLog }, end: SessionEnd): Promise<void> {
    const { life, log } = parts;
    const endedAtMs = Date.now();
    // The key of a command that never reached the guest is free again, before anybody hears of the end.
    if (facts.start && isUnknownToGuest(end) && !this.#records.isBegun(facts.spriteId, facts.id)) {
      this.#records.delete(facts.spriteId, facts.id);
    } else if (isKept(facts)) {
      await this.#flushes(() => log.flush()).catch((error: unknown) =>
        this.#logger.error({ event: "exec.flush", sessionId: facts.id, err: error }, "a log could not be flushed to the disk"),
      );
      const { lastOutputAtMs, inputTaken } = session;
      this.#recordEnd(facts, log, { end, endedAtMs, lastOutputAtMs, inputTaken });
    }
    this.#remove(facts.spriteId, facts.id);
    if (end.kind !== "lost" || !LIFE_ENDS.has(end.code)) this.#forgetInGuest(life, guestIdOf(facts));
  }

  #recordEnd(
    facts: KeptFacts,
    log: SessionLog,
    at: { end: SessionEnd; endedAtMs: number; lastOutputAtMs: number; inputTaken: number },
  ): void {
    const { end, ...times } = at;
    this.#records.recordEnd(facts, {
      ...times,
      outcome: end.kind === "exit" ? { kind: "exit", ...end.exit } : end,
      offsets: log.offsets,
      startOffsets: log.startOffsets,
      logBytes: log.bytes,
    });
    this.#endedIn.add(facts.spriteId);
  }

  /** The agent keeps an ended session until told. Waits while the sprite sleeps, ends with its life. */
  #forgetInGuest(life: GuestLife, guestId: string): void {
    void life
      .link()
      .then((link) => link.deleteSession(guestId))
      .catch(ignore("the life has ended, or the next start of the daemon does it"));
  }

  /**
   * What a guest still has and no record names: connections of an earlier daemon are taken over
   * (PROXY-5), sessions that ended or were given up are forgotten. Waits while the sprite sleeps.
   */
  async #settleGuest(spriteId: string, life: GuestLife): Promise<void> {
    const link = await life.link();
    for (const found of await link.listSessions()) {
      if (this.#isFollowed(spriteId, life, found.id)) continue;
      if (!found.connect) await link.deleteSession(found.id);
      else {
        const work: ExecWork = { kind: "connection", ...found.connect };
        const request: ExecRequest = { work, owner: "proxy", runAfterDisconnectMs: CONNECTION_KEPT_MS };
        const facts = factsOf(spriteId, request, { id: found.id, nowMs: found.started_at_ms });
        const session = this.#add(facts, { life, log: new ConnectionLog(found.kept_from), inputKnown: false });
        session.follow(undefined);
        session.clientsLost();
      }
    }
  }

  /** A life that began with a memory put in place brings sessions along. */
  #lifeMayBeNew(spriteId: string): Promise<void> | undefined {
    const life = this.#sprites.findLife(spriteId);
    return life && this.#adoptions.adopt(spriteId, life);
  }

  #followAdopted({ facts, record }: Adopted, life: GuestLife): void {
    const log = new FileLog({ ...this.#logOptions(facts), start: record.logStart });
    this.#add(facts, { life, log, inputKnown: false }).follow(undefined);
  }

  #isFollowed(spriteId: string, life: GuestLife, guestId: string): boolean {
    for (const one of this.#bySprite.get(spriteId)?.values() ?? []) if (one.guestId === guestId && one.lifeId === life.id) return true;
    return false;
  }

  #spriteDeleted(spriteId: string): void {
    this.#records.deleteOfSprite(spriteId);
    const sessions = [...(this.#bySprite.get(spriteId)?.values() ?? [])];
    this.#bySprite.delete(spriteId);
    this.#endedIn.delete(spriteId);
    void Promise.all(sessions.map((session) => session.abandon(SPRITE_DELETED)))
      .then(() => fs.rm(path.join(this.#settings.logDirectory, spriteId), { recursive: true, force: true }))
      .catch((error: unknown) => this.#logger.warn({ event: "exec.delete", spriteId, err: error }, "logs of a deleted sprite are left"));
  }

  #retain(spriteIds: Iterable<string>): void {
    this.#endedIn.clear();
    for (const spriteId of spriteIds) {
      for (const id of expiredSessions(this.#records.sizesOfEnded(spriteId), this.#settings.retention, Date.now())) {
        void this.forget(spriteId, id).catch((error: unknown) =>
          this.#logger.warn({ event: "exec.retention", spriteId, sessionId: id, err: error }, "a log could not be removed"),
        );
      }
    }
  }

  #remove(spriteId: string, sessionId: string): void {
    const sessions = this.#bySprite.get(spriteId);
    sessions?.delete(sessionId);
    if (sessions?.size === 0) this.#bySprite.delete(spriteId);
  }

  #endedOne(spriteId: string, sessionId: string): EndedSession | undefined {
    const record = this.#records.find(spriteId, sessionId);
    return record && this.#endedSession(record);
  }

  #endedSession(record: SessionRecord): EndedSession | undefined {
    const { spriteId, id, end } = record;
    const input = () => this.#records.input(spriteId, id).load();
    return end && new EndedSession(record, end, { directory: this.#directory(spriteId, id), input, logger: this.#logger });
  }

  #logOptions({ spriteId, id }: { spriteId: string; id: string }) {
    return { directory: this.#directory(spriteId, id), bytesMax: this.#settings.logBytesMax, logger: this.#logger };
  }

  #directory(spriteId: string, sessionId: string): string {
    return path.join(this.#settings.logDirectory, spriteId, sessionId);
  }

  /** Decimal, unique over daemon restarts as long as the clock does not run backwards past one. */
  #newId(): string {
    this.#lastId = Math.max(this.#lastId + 1, Date.now() * 1000);
    return String(this.#lastId);
  }
}
