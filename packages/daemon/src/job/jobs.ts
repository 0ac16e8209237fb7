/**
 * Background commands (docs/spec/jobs.md): a job is an exec session that needs no client, plus a
 * row that says what became of it.
 *
 * Invariants: the row is stored before the agent can hear of the command; a command is asked for
 * once at most; every job reaches an end with a reason where the outcome is not known.
 */
import { every, ignore, Listeners, type Logger, sleep } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import type { Exec, ExecSession, LogPiece, LogQuery } from "../exec/exec.ts";
import type { Sprites } from "../sprite/sprite.ts";
import type { JobRecord, JobRecords } from "../store/index.ts";
import { isOpen, lost, runs } from "./outcome.ts";
import { pageMark, readPageMark } from "./page-mark.ts";
import { requireWebhookUrl } from "./public-address.ts";
import { type JobRequest, newJobId, requestHash, requireStartable } from "./request.ts";
import { JobRun } from "./run.ts";
import { neverStarted, startFailure } from "./starting.ts";
import { Webhooks } from "./webhooks.ts";

/** How long a start is waited for before the id is given away without it, ms; clients give up after 30 s. */
const START_WAIT_MS = 20_000;
/** How often retention is looked after, ms. */
const SWEEP_MS = 600_000;

export interface JobSettings {
  /** How long ended jobs are kept, ms; undefined: as long as their sprite. */
  retentionMs: number | undefined;
  /** Most ended jobs kept of one sprite. */
  keptPerSprite: number;
  /** Whether webhooks may go to addresses that are not public. */
  webhookPrivate: boolean;
}

export interface JobOptions {
  records: JobRecords;
  sprites: Pick<Sprites, "get" | "subscribe">;
  exec: Pick<Exec, "start" | "find" | "forget">;
  settings: JobSettings;
  nowMs: () => number;
  logger: Logger;
}

/** A job that has not ended. */
interface Open {
  /** Resolves when the start is over, well or not. Never rejects. */
  started: Promise<void>;
  run: JobRun | undefined;
  settled: PromiseWithResolvers<void>;
}

export class Jobs {
  /** Told of each job that ended, when its end is stored. */
  readonly ends = new Listeners<[JobRecord]>();
  readonly #options: JobOptions;
  readonly #open = new Map<string, Open>();
  readonly #webhooks: Webhooks;
  readonly #stops: (() => void)[] = [];
  #closed = false;

  constructor(options: JobOptions) {
    this.#options = options;
    const { records, nowMs, logger, settings } = options;
    this.#webhooks = new Webhooks({
      records,
      nowMs,
      logger,
      allowPrivate: settings.webhookPrivate,
      onSettled: (job) => this.#purgeOrphan(job),
    });
    this.#stops.push(options.sprites.subscribe((sprite, change) => change === "deleted" && this.#spriteDeleted(sprite.id)));
    const sweep = every(SWEEP_MS, () => void this.sweep().catch((error: unknown) => this.#warn("job_sweep", error)));
    this.#stops.push(() => sweep[Symbol.dispose]());
  }

  /** Settles what an earlier daemon left (JOB-9); call once, after exec has found its sessions again. */
  async recover(): Promise<void> {
    const { records } = this.#options;
    for (const job of records.open()) {
      const session = this.#session(job);
      if (session) this.#follow(runs(job, session.createdAtMs), session, this.#opened(job.id, Promise.resolve()));
      else if (job.state === "starting") this.#lost(job, "the server stopped before the command was started; it did not run");
      else this.#lost(job, this.#spriteIs(job) ? "its session is gone" : "the sprite was deleted");
    }
    for (const spriteId of records.spriteIds()) for (const job of records.ofSprite(spriteId)) this.#purgeOrphan(job);
    this.#webhooks.wake();
    await this.sweep();
  }

  get openCount(): number {
    return this.#open.size;
  }

  /** Starts a command, or finds the job of the same idempotency key. Throws `ApiError`. */
  async start(organizationId: string, spriteName: string, request: JobRequest): Promise<{ job: JobRecord; created: boolean }> {
    const { sprites, records, nowMs, settings } = this.#options;
    const { id: spriteId } = sprites.get(organizationId, spriteName);
    requireStartable(request);
    if (request.webhook) requireWebhookUrl(request.webhook.url, { allowPrivate: settings.webhookPrivate });
    const hash = requestHash(request);
    const findSame = () => (request.idempotencyKey === undefined ? undefined : records.findByKey(spriteId, request.idempotencyKey));
    let same = findSame();
    // Nothing is awaited between the last look and the insert: of two requests one finds the other.
    for (let open = this.#startingOf(same); open && !this.#closed && (await this.#startsInTime(open)); open = this.#startingOf(same))
      same = findSame();
    if (same && same.requestHash !== hash)
      throw new ApiError("idempotency_key_reused", `the key belongs to job ${same.id}, which was started with another request`, {
        details: { field: "idempotency_key", job_id: same.id },
      });
    if (same) return { job: this.#live(same), created: false };
    const job = newRecord({ organizationId, spriteId, spriteName, hash, atMs: nowMs() }, request);
    records.insert(job, request.stdin);
    const begun = this.#begin(job, request);
    const open = this.#opened(job.id, begun.then(ignore("over"), ignore("over")));
    const failure = await this.#startOutcome(begun, job, open);
    if (failure) throw failure;
    // As it was when it began, also when it has ended since: the answer to a start says `running`.
    return { job: runs(job, records.find(spriteId, job.id)?.startedAtMs ?? job.createdAtMs), created: true };
  }

  /** Throws `sprite_not_found`, `job_not_found`. */
  get(organizationId: string, spriteName: string, id: string): JobRecord {
    const { sprites, records } = this.#options;
    const job = records.find(sprites.get(organizationId, spriteName).id, id);
    if (!job) throw new ApiError("job_not_found", `the sprite ${spriteName} has no job ${id.slice(0, 40)}`);
    return this.#live(job);
  }

  /** A page, newest first. */
  list(
    organizationId: string,
    spriteName: string,
    query: { state: JobRecord["state"] | undefined; continuationToken: string | undefined; maxResults: number },
  ): { jobs: JobRecord[]; continuationToken: string | undefined } {
    const { sprites, records } = this.#options;
    const { id: spriteId } = sprites.get(organizationId, spriteName);
    const states = query.state === "running" ? ["starting", "running"] : query.state && [query.state];
    const found = records.page(spriteId, { states, before: readPageMark(query.continuationToken), maxResults: query.maxResults + 1 });
    const jobs = found.slice(0, query.maxResults);
    const last = found.length > jobs.length ? jobs.at(-1) : undefined;
    return { jobs: jobs.map((job) => this.#live(job)), continuationToken: last && pageMark(last) };
  }

  /** The job once it has ended, or as it is after `timeoutMs`. */
  async wait(
    organizationId: string,
    spriteName: string,
    id: string,
    options: { timeoutMs: number; signal: AbortSignal },
  ): Promise<JobRecord> {
    const job = this.get(organizationId, spriteName, id);
    const open = this.#open.get(id);
    if (!isOpen(job) || !open) return job;
    const ender = new AbortController();
    const signal = AbortSignal.any([options.signal, ender.signal]);
    await Promise.race([open.settled.promise, sleep(options.timeoutMs, { signal }).catch(ignore("the client left, or the job ended"))]);
    ender.abort();
    return this.get(organizationId, spriteName, id);
  }

  /** Sends a signal, name without `SIG`. Throws `job_ended`. */
  async signal(organizationId: string, spriteName: string, id: string, name: string): Promise<JobRecord> {
    const session = await this.#startedSession(this.get(organizationId, spriteName, id));
    const job = this.get(organizationId, spriteName, id);
    if (!session || session.end || !isOpen(job)) throw new ApiError("job_ended", `the job ${id} has ended already`);
    session.signal(name);
    return job;
  }

  /** Output as exec keeps it; undefined when there never was any. */
  async readLog(organizationId: string, spriteName: string, id: string, query: LogQuery): Promise<AsyncIterable<LogPiece> | undefined> {
    const job = this.get(organizationId, spriteName, id);
    const session = (await this.#startedSession(job)) ?? this.#session(job);
    return session?.readLog(query);
  }

  /** Frees row and log; a command that runs is killed. Its webhook is not told. */
  async delete(organizationId: string, spriteName: string, id: string): Promise<void> {
    const job = this.get(organizationId, spriteName, id);
    await this.#startedSession(job);
    await this.#remove(job);
  }

  /** Deletes ended jobs that are older or more than are kept (JOB-17). */
  async sweep(): Promise<void> {
    const { records, settings, nowMs } = this.#options;
    const old = settings.retentionMs === undefined ? [] : records.endedBefore(nowMs() - settings.retentionMs);
    const many = records.spriteIds().flatMap((spriteId) => records.endedBeyond(spriteId, settings.keptPerSprite));
    const doomed = new Map([...old, ...many].filter((job) => job.webhook?.state !== "pending").map((job) => [job.id, job]));
    for (const job of doomed.values()) await this.#remove(job);
  }

  /** Lets go of everything; commands run on. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const stop of this.#stops) stop();
    for (const { run } of this.#open.values()) run?.detach();
    await this.#webhooks.close();
  }

  /** A job whose start is going on; it may yet leave no job (JOB-2). */
  #startingOf(job: JobRecord | undefined): Open | undefined {
    return job?.state === "starting" ? this.#open.get(job.id) : undefined;
  }

  /** False when the start takes so long that its id is given away without it. */
  async #startsInTime(open: Open): Promise<boolean> {
    const ender = new AbortController();
    const late = sleep(START_WAIT_MS, { signal: ender.signal, ref: false }).then(() => false, ignore("it started"));
    const outcome = await Promise.race([open.started, late]);
    ender.abort();
    return outcome !== false;
  }

  #opened(id: string, started: Promise<void>): Open {
    const open: Open = { started, run: undefined, settled: Promise.withResolvers() };
    this.#open.set(id, open);
    return open;
  }

  async #begin(job: JobRecord, request: JobRequest): Promise<ExecSession> {
    const { argv, env, dir, stdin } = request;
    return await this.#options.exec.start(job.organizationId, job.spriteName, {
      work: { kind: "command", argv, env, dir, tty: undefined, stdin: stdin !== undefined },
      runAfterDisconnectMs: undefined,
      id: job.id,
      owner: "job",
    });
  }

  /** Follows a start to its end; resolves with the error to tell the client, or when the id may be given away. */
  async #startOutcome(begun: Promise<ExecSession>, job: JobRecord, open: Open): Promise<unknown> {
    let given = false;
    const outcome = begun.then(
      (session) => {
        if (this.#closed) return undefined;
        this.#follow(runs(job, session.createdAtMs), session, open);
        return undefined;
      },
      async (error: unknown) => {
        if (this.#closed) return error; // the next daemon settles the row
        return await this.#startFailed(job, error, { given });
      },
    );
    open.started = outcome.then(ignore("over"), ignore("over"));
    const ender = new AbortController();
    const first = await Promise.race([outcome, sleep(START_WAIT_MS, { signal: ender.signal, ref: false }).catch(ignore("it started"))]);
    given = true;
    ender.abort();
    return first;
  }

  /** A job that certainly did not run is forgotten where the client hears so; else it stays, as lost. */
  async #startFailed(job: JobRecord, error: unknown, { given }: { given: boolean }): Promise<unknown> {
    const { exec, records, nowMs } = this.#options;
    await exec.forget(job.spriteId, job.id).catch((cause: unknown) => this.#warn("job_start", cause));
    if (neverStarted(error) && !given) {
      records.delete(job.id);
      this.#settled(job.id);
      return error;
    }
    this.#finish(lost(job, startFailure(error), nowMs()));
    if (!ApiError.is(error)) return error;
    return new ApiError(error.code, error.message, { details: { ...error.details, job_id: job.id }, cause: error });
  }

  #follow(job: JobRecord, session: ExecSession, open: Open): void {
    const { records, nowMs, logger } = this.#options;
    records.update(job);
    open.run = new JobRun({ job, session, records, nowMs, logger, onEnd: (ended) => this.#ended(ended) });
  }

  /** A job of an earlier daemon whose outcome nobody knows. */
  #lost(job: JobRecord, reason: string): void {
    const ended = lost(job, reason, this.#options.nowMs());
    this.#options.records.update(ended);
    this.ends.tell(ended);
  }

  #finish(job: JobRecord): void {
    this.#options.records.update(job);
    this.#options.records.inputTaken(job.id);
    this.#ended(job);
  }

  #ended(job: JobRecord): void {
    this.#options.logger.info({ event: "job_end", job: job.id, sprite: job.spriteName, outcome: job.state }, "job ended");
    this.ends.tell(job);
    this.#settled(job.id);
    if (job.webhook) this.#webhooks.wake();
  }

  #settled(id: string): void {
    const open = this.#open.get(id);
    this.#open.delete(id);
    open?.run?.detach();
    open?.settled.resolve();
  }

  /** The session of a job, after its start if that is going on. */
  async #startedSession(job: JobRecord): Promise<ExecSession | undefined> {
    const open = this.#open.get(job.id);
    await open?.started;
    return open?.run?.session;
  }

  async #remove(job: JobRecord): Promise<void> {
    const { exec, records } = this.#options;
    this.#open.get(job.id)?.run?.detach();
    await exec.forget(job.spriteId, job.id);
    records.delete(job.id);
    this.#settled(job.id);
  }

  #spriteDeleted(spriteId: string): void {
    const { records, nowMs } = this.#options;
    for (const job of records.open(spriteId)) this.#finish(lost(job, "the sprite was deleted", nowMs()));
    for (const job of records.ofSprite(spriteId)) this.#purgeOrphan(job);
  }

  /** A job whose sprite is gone is kept only until its webhook has heard of its end. */
  #purgeOrphan(job: JobRecord): void {
    if (job.webhook?.state !== "pending" && !isOpen(job) && !this.#spriteIs(job)) this.#options.records.delete(job.id);
  }

  #spriteIs(job: JobRecord): boolean {
    try {
      return this.#options.sprites.get(job.organizationId, job.spriteName).id === job.spriteId;
    } catch (error) {
      if (ApiError.is(error) && error.code === "sprite_not_found") return false;
      throw error;
    }
  }

  #session(job: JobRecord): ExecSession | undefined {
    if (!this.#spriteIs(job)) return undefined;
    return this.#options.exec.find(job.organizationId, job.spriteName, job.id);
  }

  /** With the bytes that have come so far. */
  #live(job: JobRecord): JobRecord {
    const live = this.#open.get(job.id)?.run?.job;
    return live && isOpen(job) ? { ...job, stdoutBytes: live.stdoutBytes, stderrBytes: live.stderrBytes } : job;
  }

  #warn(event: string, error: unknown): void {
    this.#options.logger.warn({ event, err: error }, "a job's log could not be freed; tried again later");
  }
}

function newRecord(
  facts: { organizationId: string; spriteId: string; spriteName: string; hash: string; atMs: number },
  request: JobRequest,
): JobRecord {
  const { organizationId, spriteId, spriteName } = facts;
  return {
    id: newJobId(),
    organizationId,
    spriteId,
    spriteName,
    state: "starting",
    reason: undefined,
    argv: request.argv,
    dir: request.dir,
    timeoutMs: request.timeoutMs,
    timingOutAtMs: undefined,
    idempotencyKey: request.idempotencyKey,
    requestHash: facts.hash,
    createdAtMs: facts.atMs,
    startedAtMs: undefined,
    endedAtMs: undefined,
    exitCode: undefined,
    signal: undefined,
    stdoutBytes: 0,
    stderrBytes: 0,
    webhook: request.webhook && {
      ...request.webhook,
      state: "waiting",
      attempts: 0,
      status: undefined,
      error: undefined,
      nextAtMs: undefined,
    },
  };
}
