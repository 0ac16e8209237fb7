/**
 * Keeps one pool as its plan says: fills spares, replaces old ones, gives them out.
 *
 * Invariants: a spare is in the store before anything of it exists; only the planner decides how
 * many there are; a claim is one synchronous step, so no two get the same spare (POOL-5); whatever
 * fails while filling is discarded and counted (POOL-9).
 */
import { after, DeadlineError, type Logger, withDeadline } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import { v7 as uuidv7 } from "uuid";
import type { SpriteView } from "../sprite/index.ts";
import { aimOf, DEMAND_MS, planPool, type PoolSituation, retirementOf } from "./plan.ts";
import type { PoolRecord } from "./pool.ts";
import type { PoolSprites, SpareRecord } from "./spares.ts";
import { type PoolCounts, PoolStatistics } from "./statistics.ts";
import { WaitingLine } from "./waiting-line.ts";

/** Creating a spare and putting it to rest, without its set-up command, ms; emulation is slow. */
const FILL_TIMEOUT_MS = 300_000;
/** Pause that an empty pool proposes when it has never filled a spare, s. */
const RETRY_AFTER_SECONDS = 5;
const RETRY_AFTER_SECONDS_MAX = 60;
/** Longest failure text that is kept. */
const PROBLEM_LENGTH_MAX = 500;

/** What the keeper writes; every call is durable when it returns. */
export interface SpareStore {
  insertSpare(spare: SpareRecord): void;
  updateSpare(spare: SpareRecord): void;
  deleteSpare(spriteId: string): void;
  /** Counts the claim and forgets the spare; part of the claim's transaction. */
  spareClaimed(spare: SpareRecord): void;
  updateCounts(poolId: string, counts: PoolCounts): void;
}

export interface KeeperOptions {
  record: PoolRecord;
  spares: SpareRecord[];
  store: SpareStore;
  sprites: PoolSprites;
  logger: Logger;
  nowMs(): number;
  /** A spare is ready, after so long. */
  onFilled?(durationMs: number): void;
}

/** The set-up command of a pool ended with another code than 0; the message is the end of its output. */
class SetupError extends Error {
  override readonly name = "SetupError";
}

export interface SpareClaim {
  name: string;
  labels: string[];
  environment: Record<string, string>;
  /** Written with the claim in one transaction. */
  record: (spriteId: string) => void;
}

export class PoolKeeper {
  record: PoolRecord;
  readonly statistics: PoolStatistics;
  readonly #options: KeeperOptions;
  #spares: SpareRecord[];
  readonly #line = new WaitingLine<SpriteView>();
  readonly #filling = new Map<string, { abort: AbortController; done: Promise<void> }>();
  readonly #discarding = new Set<Promise<void>>();
  #claimsMs: number[] = [];
  #begunMs: number[] = [];
  #failures = { count: 0, lastMs: 0, message: "" };
  #timer: Disposable | undefined;
  #closed = false;

  constructor(options: KeeperOptions) {
    this.#options = options;
    this.record = options.record;
    const { record, store, logger } = options;
    this.statistics = new PoolStatistics(record.counts, { store: (counts) => store.updateCounts(record.id, counts), logger });
    this.#spares = options.spares;
  }

  /** Ready and filling, oldest first. */
  get spares(): readonly SpareRecord[] {
    return this.#spares;
  }

  get waiting(): number {
    return this.#line.length;
  }

  get aim(): number {
    return aimOf(this.#situation());
  }

  get lastError(): { message: string; atMs: number; failures: number } | undefined {
    const { count, lastMs, message } = this.#failures;
    return count === 0 ? undefined : { message, atMs: lastMs, failures: count };
  }

  /** Does what the plan says now, and plans again when it says so. Call after every change from outside. Never throws. */
  advance(): void {
    if (this.#closed) return;
    const nowMs = this.#options.nowMs();
    this.#claimsMs = this.#claimsMs.filter((atMs) => atMs > nowMs - DEMAND_MS);
    this.#begunMs = this.#begunMs.filter((atMs) => atMs > nowMs - DEMAND_MS);
    const situation = this.#situation();
    const plan = planPool(situation);
    for (const spriteId of plan.discard) this.#retire(spriteId, situation);
    for (let count = 0; count < plan.fill && situation.version !== undefined; count += 1) this.#begin(situation.version);
    // A beginning that failed makes the next one due later.
    const { nextMs } = planPool(this.#situation());
    this.#timer?.[Symbol.dispose]();
    this.#timer = nextMs === undefined ? undefined : after(Math.max(1, nextMs - nowMs), () => this.advance());
  }

  /** Gives a ready spare out (POOL-4). Throws `pool_empty` unless the claim is patient, and what the hub throws. */
  async claim(claim: SpareClaim, options: { waitMs: number; signal: AbortSignal | undefined }): Promise<SpriteView> {
    const serve = (): SpriteView | undefined => this.#serve(claim);
    // Those who wait were here before.
    const given = this.#line.length === 0 ? serve() : undefined;
    if (given) return given;
    this.statistics.count("empty");
    if (options.waitMs <= 0) throw this.#empty();
    const turn = this.#line.join(serve, { timeoutMs: options.waitMs, signal: options.signal });
    this.advance();
    try {
      return await turn;
    } catch (error) {
      this.advance();
      throw error instanceof DeadlineError ? this.#empty() : error;
    }
  }

  /** The pool has another template: no spare it has is of the current version (POOL-10). */
  outdate(): void {
    for (const { abort } of this.#filling.values()) abort.abort(new ApiError("template_not_found", "the pool has another template now"));
    this.#spares = this.#spares.map((spare) => ({ ...spare, templateVersion: 0 }));
    for (const spare of this.#spares) this.#options.store.updateSpare(spare);
  }

  /** Stops filling; spares stay. Unfinished fillings are discarded at the next start (POOL-13). */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.[Symbol.dispose]();
    this.#line.close(new ApiError("shutting_down", "the server is stopping"));
    for (const { abort } of this.#filling.values()) abort.abort(new ApiError("shutting_down", "the server is stopping"));
    await Promise.all([...this.#filling.values()].map(({ done }) => done));
    await Promise.all(this.#discarding);
    this.statistics.close();
  }

  /** The pool is deleted: its spares go. */
  async drain(): Promise<void> {
    this.#closed = true;
    this.#timer?.[Symbol.dispose]();
    this.#line.close(new ApiError("pool_not_found", "the pool was deleted"));
    for (const { abort } of this.#filling.values()) abort.abort(new ApiError("pool_not_found", "the pool was deleted"));
    await Promise.all([...this.#filling.values()].map(({ done }) => done));
    for (const { spriteId } of this.#spares) this.#discard(spriteId);
    await Promise.all(this.#discarding);
    this.statistics.forget();
  }

  /** Discards spares that an earlier daemon left unfinished or that are gone (POOL-13). */
  settle(): void {
    for (const spare of this.#spares) {
      if (spare.state === "filling" || !this.#options.sprites.isSound(spare.spriteId)) this.#discard(spare.spriteId);
    }
  }

  /** Plans when the claim is answered: what beginning a spare writes holds no claim up (POOL-8). */
  #advanceSoon(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = after(0, () => this.advance());
  }

  #serve(claim: SpareClaim): SpriteView | undefined {
    const { sprites, store } = this.#options;
    const ready = this.#spares.filter((spare) => spare.state === "ready");
    const newest = Math.max(...ready.map((spare) => spare.templateVersion));
    for (const spare of ready.filter((one) => one.templateVersion === newest)) {
      if (!sprites.isSound(spare.spriteId)) {
        this.#discard(spare.spriteId);
        continue;
      }
      const { name, labels, environment } = claim;
      const view = sprites.claim(spare.spriteId, { name, labels, environment }, () => {
        store.spareClaimed(spare);
        claim.record(spare.spriteId);
      });
      this.#spares = this.#spares.filter((one) => one !== spare);
      this.record = { ...this.record, claimed: this.record.claimed + 1 };
      this.#claimsMs.push(this.#options.nowMs());
      this.#advanceSoon();
      return view;
    }
    return ready.length > 0 && this.#spares.some((spare) => spare.state === "ready") ? this.#serve(claim) : undefined;
  }

  #begin(templateVersion: number): void {
    const spare: SpareRecord = {
      spriteId: uuidv7(),
      poolId: this.record.id,
      templateVersion,
      state: "filling",
      sinceMs: this.#options.nowMs(),
    };
    try {
      this.#options.store.insertSpare(spare);
    } catch (error) {
      this.#noteFailure(error);
      return;
    }
    this.#spares.push(spare);
    this.#begunMs.push(spare.sinceMs);
    const abort = new AbortController();
    const done = this.#fill(spare, abort.signal)
      .then(() => this.#filled(spare))
      .catch((error: unknown) => this.#failed(spare, error))
      .then(() => {
        this.#filling.delete(spare.spriteId);
        this.#line.advance();
        this.advance();
      });
    this.#filling.set(spare.spriteId, { abort, done });
  }

  async #fill(spare: SpareRecord, signal: AbortSignal): Promise<void> {
    const { sprites } = this.#options;
    const { organizationId, templateName, config } = this.record;
    const { spriteId, poolId, templateVersion } = spare;
    const timeoutMs = FILL_TIMEOUT_MS;
    await withDeadline("creating a spare", { timeoutMs, signal }, (deadline) =>
      sprites.createSpare({ spriteId, poolId, organizationId, templateName, templateVersion }, { signal: deadline }),
    );
    if (config.setup) {
      const { setup } = config;
      const failed = await withDeadline("the set-up command", { timeoutMs: config.setupTimeoutMs, signal }, (deadline) =>
        sprites.runSetup(spare, setup, { signal: deadline }),
      );
      if (failed) throw new SetupError(failed.problem.slice(-PROBLEM_LENGTH_MAX));
    }
    await withDeadline("putting a spare to rest", { timeoutMs, signal }, (deadline) =>
      sprites.settle(spare, config.spare, { signal: deadline }),
    );
  }

  #filled(spare: SpareRecord): void {
    const nowMs = this.#options.nowMs();
    const ready: SpareRecord = { ...spare, state: "ready", sinceMs: nowMs };
    this.#options.store.updateSpare(ready);
    this.statistics.filled(nowMs - spare.sinceMs);
    this.#options.onFilled?.(nowMs - spare.sinceMs);
    this.#failures = { count: 0, lastMs: 0, message: "" };
    this.#spares = this.#spares.map((one) => (one.spriteId === spare.spriteId ? ready : one));
    this.#options.logger.info({ event: "pool.fill", outcome: "ok", poolId: this.record.id, spriteId: spare.spriteId }, "spare ready");
  }

  #failed(spare: SpareRecord, error: unknown): void {
    const isCalledOff = this.#filling.get(spare.spriteId)?.abort.signal.aborted ?? false;
    if (!isCalledOff) this.#noteFailure(error);
    this.#discard(spare.spriteId);
  }

  #noteFailure(error: unknown): void {
    const isKnown = ApiError.is(error) || error instanceof SetupError || error instanceof DeadlineError;
    const message = isKnown ? error.message : "a fault of the server";
    const atMs = this.#options.nowMs();
    this.#failures = { count: this.#failures.count + 1, lastMs: atMs, message };
    this.statistics.failed({ code: failureCode(error), atMs });
    this.#options.logger.warn({ event: "pool.fill", outcome: "failed", poolId: this.record.id, err: error }, "a spare was not filled");
  }

  #retire(spriteId: string, situation: PoolSituation): void {
    const spare = situation.spares.find(({ id }) => id === spriteId);
    const reason = spare && retirementOf(spare, situation);
    if (reason) this.statistics.count(reason);
    this.#discard(spriteId);
  }

  #discard(spriteId: string): void {
    this.#spares = this.#spares.filter((spare) => spare.spriteId !== spriteId);
    const { sprites, store, logger } = this.#options;
    const work = sprites
      .discard(spriteId)
      .then(() => store.deleteSpare(spriteId))
      .catch((err: unknown) =>
        logger.warn({ event: "pool.discard", outcome: "failed", spriteId, err }, "a spare was not freed; the next start frees it"),
      )
      .finally(() => this.#discarding.delete(work));
    this.#discarding.add(work);
  }

  #empty(): ApiError {
    const seconds = Math.ceil((this.statistics.expectedFillMs ?? RETRY_AFTER_SECONDS * 1000) / 1000);
    return new ApiError("pool_empty", `the pool ${this.record.name} has no sprite ready`, {
      details: { retry_after_seconds: Math.max(1, Math.min(RETRY_AFTER_SECONDS_MAX, seconds)) },
    });
  }

  #situation(): PoolSituation {
    const { organizationId, templateName, config } = this.record;
    return {
      settings: config,
      spares: this.#spares.map((spare) => ({ ...spare, id: spare.spriteId })),
      version: this.#options.sprites.currentVersion(organizationId, templateName),
      waiting: this.#line.length,
      claimsMs: this.#claimsMs,
      begunMs: this.#begunMs,
      failures: this.#failures,
      nowMs: this.#options.nowMs(),
    };
  }
}

/** Why a filling failed, in one word (POOL-18). */
function failureCode(error: unknown): string {
  if (ApiError.is(error)) return error.code;
  if (error instanceof SetupError) return "setup_failed";
  return error instanceof DeadlineError ? "timed_out" : "internal";
}
