/**
 * All pools of this host: their records and keepers.
 *
 * Invariants: a pool is in the store before its keeper acts; idempotency keys are written with the
 * claim they belong to, so that a repeated claim finds it whatever happened in between (POOL-6).
 */
import { ApiError } from "@sprited/protocol/errors";
import { ignore, Listeners, type Logger, systemClock } from "@sprited/base";
import { v7 as uuidv7 } from "uuid";
import type { SpriteView } from "../sprite/index.ts";
import { PoolKeeper, type SpareStore } from "./keeper.ts";
import type { ClaimSprite, CreatePool, PoolConfig, PoolRecord, Pools as PoolsFeature, PoolView } from "./pool.ts";
import type { PoolSprites, SpareRecord } from "./spares.ts";
import type { PoolCounts } from "./statistics.ts";

/** Longest wait of a patient claim, ms (POOL-7). */
const CLAIM_WAIT_MS = 60_000;
/** How long a claim's key is remembered, ms (POOL-6). */
const KEY_KEPT_MS = 24 * 3_600_000;

/** A claim that was answered, by its key. */
export interface ClaimRecord {
  organizationId: string;
  key: string;
  poolId: string;
  spriteId: string;
  /** Name that was asked for; undefined when the claim left it to the server. */
  askedName: string | undefined;
  spriteName: string;
  claimedAtMs: number;
}

/** What the pools feature needs of the store. Every write is durable when its call returns. */
export interface PoolRecords {
  loadPools(): PoolRecord[];
  loadSpares(): SpareRecord[];
  insertPool(pool: PoolRecord): void;
  updatePool(pool: PoolRecord): void;
  deletePool(poolId: string): void;
  insertSpare(spare: SpareRecord): void;
  updateSpare(spare: SpareRecord): void;
  deleteSpare(spriteId: string): void;
  /** Part of the claim's transaction: forgets the spare, counts the claim. */
  spareClaimed(spare: SpareRecord): void;
  updateCounts(poolId: string, counts: PoolCounts): void;
  findClaim(organizationId: string, key: string): ClaimRecord | undefined;
  insertClaim(claim: ClaimRecord): void;
  /** Forgets claims from before. */
  deleteClaims(beforeMs: number): void;
}

export interface PoolsOptions {
  records: PoolRecords;
  sprites: PoolSprites;
  organizationSlug(organizationId: string): string;
  logger: Logger;
  nowMs(): number;
}

/** What happened in a pool: something that took its time, or the pool's end. */
export type PoolEvent = { organizationSlug: string; pool: string } & (
  | { kind: "claimed" | "filled"; durationMs: number }
  | { kind: "deleted" }
);

export class Pools implements PoolsFeature {
  readonly events = new Listeners<[PoolEvent]>();
  readonly #options: PoolsOptions;
  readonly #keepers = new Map<string, PoolKeeper>();
  readonly #byName = new Map<string, PoolKeeper>();
  /** Claims with a key that are under way: a repetition waits for the first. */
  readonly #claiming = new Map<string, Promise<SpriteView>>();

  constructor(options: PoolsOptions) {
    this.#options = options;
  }

  /** Takes up what is in the store, discards what was unfinished, and begins to fill (POOL-13). Call when sprites are recovered. */
  recover(): void {
    const { records } = this.#options;
    const spares = records.loadSpares();
    for (const record of records.loadPools())
      this.#hold(
        record,
        spares.filter((spare) => spare.poolId === record.id),
      );
    records.deleteClaims(this.#options.nowMs() - KEY_KEPT_MS);
    for (const keeper of this.#keepers.values()) {
      keeper.settle();
      keeper.advance();
    }
  }

  /** Ids of the sprites that are spares: what no list shows and reclaim must keep. */
  spareIds(): Set<string> {
    return new Set([...this.#keepers.values()].flatMap((keeper) => keeper.spares.map(({ spriteId }) => spriteId)));
  }

  create(request: CreatePool): PoolView {
    const { organizationId, name, templateName, config } = request;
    if (this.#byName.has(keyOf(organizationId, name)))
      throw new ApiError("pool_name_taken", `a pool named ${name} exists already`, { details: { field: "name" } });
    this.#requireTemplate(organizationId, templateName);
    requireBounds(config);
    const nowMs = this.#options.nowMs();
    const record: PoolRecord = {
      id: uuidv7(),
      organizationId,
      name,
      templateName,
      config,
      claimed: 0,
      createdAtMs: nowMs,
      updatedAtMs: nowMs,
    };
    this.#options.records.insertPool(record);
    const keeper = this.#hold(record, []);
    keeper.advance();
    return this.#view(keeper);
  }

  list(organizationId: string): PoolView[] {
    return [...this.#keepers.values()]
      .filter((keeper) => keeper.record.organizationId === organizationId)
      .sort((one, other) => (one.record.name < other.record.name ? -1 : 1))
      .map((keeper) => this.#view(keeper));
  }

  /** Of every organization. */
  all(): PoolView[] {
    return [...this.#keepers.values()].map((keeper) => this.#view(keeper));
  }

  get(organizationId: string, name: string): PoolView {
    return this.#view(this.#keeper(organizationId, name));
  }

  update(organizationId: string, name: string, change: { templateName?: string | undefined; config: Partial<PoolConfig> }): PoolView {
    const keeper = this.#keeper(organizationId, name);
    const config = { ...keeper.record.config, ...change.config };
    requireBounds(config);
    if (change.templateName !== undefined) this.#requireTemplate(organizationId, change.templateName);
    const templateName = change.templateName ?? keeper.record.templateName;
    const record = { ...keeper.record, config, templateName, updatedAtMs: this.#options.nowMs() };
    this.#options.records.updatePool(record);
    if (templateName !== keeper.record.templateName) keeper.outdate();
    keeper.record = record;
    keeper.advance();
    return this.#view(keeper);
  }

  async delete(organizationId: string, name: string): Promise<void> {
    const keeper = this.#keeper(organizationId, name);
    this.#keepers.delete(keeper.record.id);
    this.#byName.delete(keyOf(organizationId, name));
    await keeper.drain();
    this.#options.records.deletePool(keeper.record.id);
    if (!this.events.isEmpty) this.events.tell({ kind: "deleted", ...this.#nameOf(keeper.record) });
  }

  async claim(organizationId: string, name: string, request: ClaimSprite, options: { signal?: AbortSignal } = {}): Promise<SpriteView> {
    const keeper = this.#keeper(organizationId, name);
    const { idempotencyKey } = request;
    if (idempotencyKey === undefined) return await this.#claim(keeper, request, options.signal);
    const key = keyOf(organizationId, idempotencyKey);
    const underWay = this.#claiming.get(key);
    if (underWay) await underWay.catch(ignore("the repetition is a claim of its own then"));
    const before = this.#options.records.findClaim(organizationId, idempotencyKey);
    if (before) return this.#repeated(before, keeper, request);
    const claiming = this.#claim(keeper, request, options.signal);
    this.#claiming.set(key, claiming);
    try {
      return await claiming;
    } finally {
      if (this.#claiming.get(key) === claiming) this.#claiming.delete(key);
    }
  }

  usersOf(organizationId: string, templateName: string): string[] {
    return this.list(organizationId)
      .filter((pool) => pool.templateName === templateName)
      .map(({ name }) => name);
  }

  /** A template has another current version, or is gone. */
  templateChanged(organizationId: string, templateName: string): void {
    for (const keeper of this.#keepers.values()) {
      if (keeper.record.organizationId === organizationId && keeper.record.templateName === templateName) keeper.advance();
    }
  }

  /** Spares stay as they are. */
  async close(): Promise<void> {
    await Promise.all([...this.#keepers.values()].map((keeper) => keeper.close()));
  }

  async #claim(keeper: PoolKeeper, request: ClaimSprite, signal: AbortSignal | undefined): Promise<SpriteView> {
    const { records, nowMs } = this.#options;
    const { id: poolId, organizationId } = keeper.record;
    const name = request.name ?? `${keeper.record.name.slice(0, 50).replace(/-+$/, "")}-${uuidv7().slice(-8)}`;
    const { labels, environment, idempotencyKey } = request;
    const startedMs = systemClock.monotonicMs();
    const claimed = keeper.claim(
      {
        name,
        labels,
        environment,
        record: (spriteId) => {
          if (idempotencyKey === undefined) return;
          const askedName = request.name;
          records.insertClaim({ organizationId, key: idempotencyKey, poolId, spriteId, askedName, spriteName: name, claimedAtMs: nowMs() });
        },
      },
      { waitMs: request.isPatient ? CLAIM_WAIT_MS : 0, signal },
    );
    return await claimed.then(
      (view) => {
        const durationMs = systemClock.monotonicMs() - startedMs;
        keeper.statistics.served(durationMs);
        this.#tell("claimed", keeper.record, durationMs);
        return view;
      },
      (error: unknown) => {
        keeper.statistics.count("refused");
        throw error;
      },
    );
  }

  #repeated(before: ClaimRecord, keeper: PoolKeeper, request: ClaimSprite): SpriteView {
    if (before.poolId !== keeper.record.id || before.askedName !== request.name) {
      keeper.statistics.count("refused");
      throw new ApiError("idempotency_key_reused", "this idempotency key was used for another claim", {
        details: { field: "idempotency_key" },
      });
    }
    return this.#options.sprites.view(before.organizationId, before.spriteName);
  }

  #hold(record: PoolRecord, spares: SpareRecord[]): PoolKeeper {
    const { records, sprites, logger, nowMs } = this.#options;
    const store: SpareStore = {
      insertSpare: (spare) => records.insertSpare(spare),
      updateSpare: (spare) => records.updateSpare(spare),
      deleteSpare: (spriteId) => records.deleteSpare(spriteId),
      spareClaimed: (spare) => records.spareClaimed(spare),
      updateCounts: (poolId, counts) => records.updateCounts(poolId, counts),
    };
    const onFilled = (durationMs: number): void => this.#tell("filled", record, durationMs);
    const keeper = new PoolKeeper({ record, spares, store, sprites, logger, nowMs, onFilled });
    this.#keepers.set(record.id, keeper);
    this.#byName.set(keyOf(record.organizationId, record.name), keeper);
    return keeper;
  }

  #tell(kind: "claimed" | "filled", record: PoolRecord, durationMs: number): void {
    if (!this.events.isEmpty) this.events.tell({ kind, durationMs, ...this.#nameOf(record) });
  }

  #nameOf({ organizationId, name: pool }: PoolRecord): { organizationSlug: string; pool: string } {
    return { organizationSlug: this.#options.organizationSlug(organizationId), pool };
  }

  #keeper(organizationId: string, name: string): PoolKeeper {
    const keeper = this.#byName.get(keyOf(organizationId, name));
    if (!keeper) throw new ApiError("pool_not_found", "there is no pool of that name");
    return keeper;
  }

  #requireTemplate(organizationId: string, templateName: string): void {
    if (this.#options.sprites.currentVersion(organizationId, templateName) === undefined)
      throw new ApiError("template_not_found", "there is no template of that name", { details: { field: "template" } });
  }

  #view(keeper: PoolKeeper): PoolView {
    const { record, spares } = keeper;
    const templateVersion = this.#options.sprites.currentVersion(record.organizationId, record.templateName);
    const ready = spares.filter(({ state }) => state === "ready");
    return {
      ...record,
      organizationSlug: this.#options.organizationSlug(record.organizationId),
      templateVersion,
      aim: keeper.aim,
      ready: ready.length,
      filling: spares.length - ready.length,
      outdated: templateVersion === undefined ? 0 : ready.filter((spare) => spare.templateVersion !== templateVersion).length,
      waiting: keeper.waiting,
      fillMs: keeper.statistics.expectedFillMs,
      counts: keeper.statistics.counts,
      times: keeper.statistics.times,
      lastFailure: keeper.statistics.lastFailure,
      lastError: keeper.lastError,
    };
  }
}

function keyOf(organizationId: string, name: string): string {
  return `${organizationId}/${name}`;
}

function requireBounds(config: PoolConfig): void {
  if (config.max >= config.min) return;
  throw new ApiError("body_invalid", `max is ${config.max}, it must be at least min, which is ${config.min}`, {
    details: { field: "max" },
  });
}
