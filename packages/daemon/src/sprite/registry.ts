/**
 * The hub: every sprite of this host, in memory, backed by the store. Finds them by owner and
 * name, makes and frees them, and hands requests that need the machine to the sprite's driver.
 * Other features enter through here; this imports none of them.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { Listeners, type Logger, Scope } from "@sprited/base";
import type { DiskPool, ImageStore } from "@sprited/disk";
import { ApiError } from "@sprited/protocol/errors";
import { v7 as uuidv7 } from "uuid";
import type { Machine, Machines } from "../machine/index.ts";
import { Activities } from "./activity.ts";
import { Batches } from "./batches.ts";
import { checkMachine } from "./check.ts";
import { type FileSteps, type Replacement, SpriteDriver } from "./driver/index.ts";
import type { GuestLife } from "./life.ts";
import { requireWithinHost, type SpriteDefaults, type SpriteLimits, type SpriteQuotas } from "./limits.ts";
import { imageOrigin, placeMemory, requireRoom } from "./origin.ts";
import { hasMachine, incarnationOf, type SpriteState } from "./lifecycle.ts";
import type { MachineEvent } from "./machine-event.ts";
import { diskPathOf, machineSpecOf } from "./machine-spec.ts";
import { SpriteIndex } from "./sprite-index.ts";
import type { SpriteRecords } from "./records.ts";
import { NO_REST, type RestSettings, SpriteRest } from "./rest.ts";
import {
  claimedSprite,
  type CreateOptions,
  type CreateSprite,
  definedOnly,
  newSprite,
  placeOf,
  type Sprite,
  type SpriteCheck,
  type SpriteClaim,
  type SpriteConfig,
  type SpritePage,
  type Sprites,
  type SpriteView,
  type StatusCounts,
  type UpdateSprite,
} from "./sprite.ts";
import { failureOf, memoryLostOf, statusOf } from "./view.ts";

export interface RegistryOptions {
  records: SpriteRecords;
  machines: Machines;
  images: ImageStore;
  pool: DiskPool;
  /** Directory with one directory per sprite. */
  spritesDirectory: string;
  defaults: SpriteDefaults;
  limits: SpriteLimits;
  /** When sprites sleep by themselves and how many run; never and all when left out. */
  rest?: RestSettings | undefined;
  /** What organizations may have; everything when left out. */
  quotas?: SpriteQuotas | undefined;
  stopGraceMs: number;
  organizationSlug(organizationId: string): string;
  logger: Logger;
}

/** One sprite in memory: its record and the driver that owns its state. */
export interface Entry {
  sprite: Sprite;
  driver: SpriteDriver;
  /** The batch it is part of, until that is finished. */
  batchId: string | undefined;
}

export class SpriteRegistry implements Sprites {
  /** What keeps each sprite awake; features take their holds here. */
  readonly activities = new Activities({ nowMs: Date.now });
  /** Wakes and sleeps of all machines, those of spares too. */
  readonly machineEvents = new Listeners<[MachineEvent]>();
  /** Sprites that are made together. */
  readonly batches: Batches;
  /** What of a sprite's files another feature has half replaced; asked before every use of them. */
  unsettled: (spriteId: string) => Replacement | undefined = () => undefined;
  readonly #options: RegistryOptions;
  readonly #index = new SpriteIndex();
  readonly #listeners = new Listeners<[view: SpriteView, change: "changed" | "deleted"]>();
  readonly #rest: SpriteRest;

  constructor(options: RegistryOptions) {
    this.#options = options;
    this.batches = new Batches({
      index: this.#index,
      records: options.records,
      freeDisk: (id) => this.#freeDisk(id),
      appeared: (entry) => this.#announce(entry, "changed"),
      logger: options.logger,
    });
    this.#rest = new SpriteRest({
      settings: options.rest ?? NO_REST,
      entries: () => this.#index.all(),
      activities: this.activities,
      logger: options.logger,
    });
  }

  /**
   * Loads every sprite and settles what an earlier daemon left (LIFE-1, LIFE-9..11). `found` is
   * called for each life that goes on, awake or asleep.
   */
  async recover(found: (spriteId: string, life: GuestLife) => void): Promise<void> {
    const machines = new Map(this.#options.records.loadMachines().map((record) => [record.spriteId, record]));
    const work = this.#options.records.loadSprites().map(async ({ sprite, state, isUnfinished }) => {
      const isNobodys = isUnfinished || state.kind === "creating";
      const entry = this.#hold(sprite, isNobodys ? { kind: "deleting", incarnation: undefined } : state);
      await entry.driver.recover(machines.get(sprite.id));
      if (entry.driver.life) found(sprite.id, entry.driver.life);
    });
    await Promise.all(work);
  }

  async create(request: CreateSprite, options: CreateOptions = {}): Promise<SpriteView> {
    const { defaults } = this.#options;
    const { cpus, memoryMib, storageGb } = { ...defaults, ...definedOnly(request.config) };
    const config: SpriteConfig = { cpus, memoryMib, storageGb };
    requireWithinHost(config, this.#options.limits);
    const { organizationId } = request;
    await this.#options.quotas?.requireSprite(organizationId, this.#ofOrganization(organizationId).length);
    const { spare } = options;
    await using reservation = this.#index.reserve(placeOf({ organizationId, poolId: spare?.poolId }), request.name);
    const origin = options.origin ?? (await imageOrigin(this.#options.images, request.imageName ?? defaults.imageName, config.storageGb));
    await requireRoom(this.#options.pool, origin);
    const id = spare?.spriteId ?? uuidv7();
    const sprite = newSprite(request, config, { id, origin, poolId: spare?.poolId, nowMs: Date.now() });
    // Between its disk and its memory it is nobody's either.
    const batchId = options.batchId ?? (origin.memory ? id : undefined);
    await using scope = new Scope(`creating ${sprite.name}`);
    this.#options.records.insertSprite(sprite, { kind: "creating" }, batchId);
    const entry = this.#hold(sprite, { kind: "creating" }, batchId);
    scope.defer("sprite", () => this.batches.takeBack(entry));
    await fs.mkdir(this.#directory(id), { mode: 0o711 });
    await this.#options.pool.clone(origin.diskPath, diskPathOf(this.#directory(id)), { signal: options.signal });
    entry.driver.created();
    if (origin.memory) await placeMemory(this.#options.pool, entry.driver, origin.memory);
    if (batchId === id) this.batches.finish(batchId);
    scope.move();
    reservation.keep();
    return this.#view(entry);
  }

  get(organizationId: string, name: string): SpriteView {
    return this.#view(this.#entry(organizationId, name));
  }

  list(
    organizationId: string,
    query: { prefix?: string | undefined; continuationToken?: string | undefined; maxResults: number },
  ): SpritePage {
    const page = this.#index.page(organizationId, query);
    return { sprites: page.entries.map((entry) => this.#view(entry)), continuationToken: page.continuationToken };
  }

  counts(organizationId: string): StatusCounts {
    const counts: StatusCounts = { running: 0, warm: 0, cold: 0 };
    for (const entry of this.#index.ofOrganization(organizationId)) counts[statusOf(entry.driver.state)] += 1;
    return counts;
  }

  async update(organizationId: string, name: string, change: UpdateSprite): Promise<SpriteView> {
    const entry = this.#entry(organizationId, name);
    const sprite: Sprite = {
      ...entry.sprite,
      labels: change.labels ?? entry.sprite.labels,
      idleSeconds: change.idleSeconds === undefined ? entry.sprite.idleSeconds : (change.idleSeconds ?? undefined),
      urlSettings: { ...entry.sprite.urlSettings, ...definedOnly(change.urlSettings) },
      updatedAtMs: Date.now(),
    };
    this.#options.records.updateSprite(sprite);
    entry.sprite = sprite;
    this.#announce(entry, "changed");
    return this.#view(entry);
  }

  /**
   * Gives a spare to its organization under a new name and as of now; `record` is written in the same transaction.
   * Nothing is woken: the next wake finds the new name and environment. Throws `sprite_name_taken`.
   */
  claim(spriteId: string, claim: SpriteClaim, record: () => void): SpriteView {
    const entry = this.#byId(spriteId);
    const claimed = claimedSprite(entry.sprite, claim, Date.now());
    this.#index.requireFree(placeOf(claimed), claim.name);
    this.#options.records.claimSprite(claimed, record);
    this.#index.remove(entry);
    entry.sprite = claimed;
    this.#index.add(entry);
    this.#announce(entry, "changed");
    return this.#view(entry);
  }

  /** Whether a spare sleeps with its memory. */
  isAtRest(spriteId: string): boolean {
    return ["hibernated", "paused"].includes(this.#index.byId(spriteId)?.driver.state.kind ?? "cold");
  }

  /** Puts the sprite to sleep as deep as asked, now. Throws `sprite_not_found`. */
  async rest(spriteId: string, depth: "paused" | "hibernated"): Promise<void> {
    await this.#byId(spriteId).driver.sleep({ depth });
  }

  /** Frees a sprite by its id; a missing one is fine. */
  async discard(spriteId: string): Promise<void> {
    await this.#index.byId(spriteId)?.driver.delete();
  }

  async delete(organizationId: string, name: string): Promise<void> {
    await this.#entry(organizationId, name).driver.delete();
  }

  async stop(organizationId: string, name: string): Promise<SpriteView> {
    const entry = this.#entry(organizationId, name);
    await entry.driver.stop();
    return this.#view(entry);
  }

  async sleep(organizationId: string, name: string): Promise<SpriteView> {
    const entry = this.#entry(organizationId, name);
    await entry.driver.sleep({ depth: "hibernated" });
    return this.#view(entry);
  }

  async wake(organizationId: string, name: string, options: { signal?: AbortSignal } = {}): Promise<SpriteView> {
    const entry = this.#entry(organizationId, name);
    await entry.driver.wake(options);
    return this.#view(entry);
  }

  async restart(organizationId: string, name: string): Promise<{ incarnation: string }> {
    const { driver } = this.#entry(organizationId, name);
    await driver.stop();
    return { incarnation: (await driver.wake()).incarnation };
  }

  async check(organizationId: string, name: string): Promise<SpriteCheck> {
    const { driver } = this.#entry(organizationId, name);
    return await checkMachine(driver.machine, driver.state);
  }

  subscribe(listener: (view: SpriteView, change: "changed" | "deleted") => void): () => void {
    return this.#listeners.add(listener);
  }

  /** The id behind a name; throws `sprite_not_found`. */
  idOf(organizationId: string, name: string): string {
    return this.#entry(organizationId, name).sprite.id;
  }

  /** The running machine of a sprite, woken if need be. */
  async wakeMachine(spriteId: string, options: { signal?: AbortSignal | undefined }): Promise<Machine> {
    return await this.#byId(spriteId).driver.wake(options);
  }

  /** Steps of other features over a sprite's disk and memory. Throws `sprite_not_found`. */
  fileSteps(spriteId: string): FileSteps {
    return this.#byId(spriteId).driver;
  }

  /** The life that is kept, awake or asleep; undefined for a cold or missing sprite. Wakes nothing. */
  findLife(spriteId: string): GuestLife | undefined {
    return this.#index.byId(spriteId)?.driver.life;
  }

  /** The sprite's life, after waking it if need be. */
  async wakeLife(spriteId: string, options: { signal?: AbortSignal | undefined } = {}): Promise<GuestLife> {
    const { driver } = this.#byId(spriteId);
    for (;;) {
      await driver.wake(options);
      // A machine that ended in the very moment left no life: the sprite is woken again.
      if (driver.life) return driver.life;
      options.signal?.throwIfAborted();
    }
  }

  /** From now on idle sprites fall asleep; call once, when everything that keeps one awake is there again. */
  startResting(): void {
    this.#rest.start();
  }

  /** Lets go of every machine; VMs run on. */
  async close(): Promise<void> {
    this.batches.close();
    await this.#rest.close();
    await Promise.all(this.#index.all().map((entry) => entry.driver.detach()));
  }

  /** The state of each machine on this host, and whether it is a spare's. */
  states(): { state: SpriteState["kind"]; isSpare: boolean }[] {
    return this.#index.all().map(({ sprite, driver }) => ({ state: driver.state.kind, isSpare: sprite.poolId !== undefined }));
  }

  /** Ids of every sprite that has a record: what the disk sweep must keep. */
  ids(): string[] {
    return this.#index.ids();
  }

  /** Ids of all that an organization pays for. */
  idsOf(organizationId: string): string[] {
    return this.#ofOrganization(organizationId).map(({ sprite }) => sprite.id);
  }

  /** Incarnations of the machines that run or are paused. */
  incarnations(): string[] {
    return this.#index.all().flatMap((entry) => incarnationOf(entry.driver.state) ?? []);
  }

  /** Digests of the system images that saved memories need. */
  systems(): string[] {
    return this.#index.all().flatMap((entry) => ("memory" in entry.driver.state ? (entry.driver.state.memory?.system ?? []) : []));
  }

  #hold(sprite: Sprite, state: SpriteState, batchId?: string): Entry {
    const { records, machines, logger, stopGraceMs } = this.#options;
    const entry: Entry = {
      sprite,
      batchId,
      driver: new SpriteDriver({
        spriteId: sprite.id,
        state,
        records,
        machines,
        logger,
        stopGraceMs,
        nowMs: Date.now,
        machineSpec: () => machineSpecOf(entry.sprite, this.#directory(sprite.id)),
        startTurn: (signal) => this.#rest.startTurn(signal),
        admit: async (signal) => {
          const { organizationId } = entry.sprite;
          const running = this.#ofOrganization(organizationId).filter(({ driver }) => hasMachine(driver.state));
          this.#options.quotas?.requireRunning(organizationId, running.length);
          return await this.#rest.admit(entry, signal);
        },
        unsettled: () => this.unsettled(sprite.id),
        freeDisk: () => this.#freeDisk(sprite.id),
        publish: (after) => this.#published(entry, after),
        touched: () => this.activities.touch(sprite.id),
        observe: (event) => this.machineEvents.tell(event),
        freed: () => {
          this.activities.forget(sprite.id);
          this.#index.remove(entry);
          this.#announce(entry, "deleted");
        },
      }),
    };
    this.#index.add(entry);
    return entry;
  }

  #published(entry: Entry, state: SpriteState): void {
    if (state.kind === "running") entry.sprite = { ...entry.sprite, lastRunningAtMs: Date.now() };
    if (state.kind !== "deleting" && entry.batchId === undefined) this.#announce(entry, "changed");
  }

  /** All that the organization pays for, spares in pools too. */
  #ofOrganization(organizationId: string): Entry[] {
    return this.#index.all().filter(({ sprite }) => sprite.organizationId === organizationId);
  }

  #byId(spriteId: string): Entry {
    const entry = this.#index.byId(spriteId);
    if (!entry) throw new ApiError("sprite_not_found", "sprite not found");
    return entry;
  }

  #entry(organizationId: string, name: string): Entry {
    const entry = this.#index.byName(organizationId, name);
    if (!entry) throw new ApiError("sprite_not_found", "sprite not found");
    return entry;
  }

  #view(entry: Entry): SpriteView {
    return {
      ...entry.sprite,
      organizationSlug: this.#options.organizationSlug(entry.sprite.organizationId),
      status: statusOf(entry.driver.state),
      failure: failureOf(entry.driver.state),
      memoryLost: memoryLostOf(entry.driver.state),
    };
  }

  #announce(entry: Entry, change: "changed" | "deleted"): void {
    if (!this.#listeners.isEmpty) this.#listeners.tell(this.#view(entry), change);
  }

  async #freeDisk(spriteId: string): Promise<void> {
    await fs.rm(this.#directory(spriteId), { recursive: true, force: true });
  }

  #directory(spriteId: string): string {
    return path.join(this.#options.spritesDirectory, spriteId);
  }
}
