/**
 * A sprite as the features see it: a name and a disk. A VM comes and goes under it.
 * Everything here is data; `driver.ts` is the only writer of `state`.
 */
import type { MemoryRecord } from "../machine/index.ts";

export interface Sprite {
  /** UUID v7. */
  id: string;
  organizationId: string;
  name: string;
  config: SpriteConfig;
  /** Added to the environment of every command. */
  environment: Record<string, string>;
  labels: string[];
  urlSettings: UrlSettings;
  /** Time without activity until it sleeps; 0: it never sleeps by itself; undefined: the server's default. */
  idleSeconds?: number | undefined;
  /** Name and digest of the base image the disk was cloned from. */
  imageName: string;
  imageDigest: string;
  createdAtMs: number;
  updatedAtMs: number;
  lastRunningAtMs: number | undefined;
  /** The pool it waits in; then its organization does not see it. */
  poolId?: string | undefined;
}

/**
 * Where a spare's name is looked up: pools are places of their own, which no organization's calls
 * reach. Whoever works on a spare names this instead of the organization.
 */
export function placeOfPool(poolId: string): string {
  return `pool:${poolId}`;
}

/** Where a sprite's name is looked up: its pool while it waits in one, else its organization. */
export function placeOf(sprite: Pick<Sprite, "organizationId" | "poolId">): string {
  return sprite.poolId === undefined ? sprite.organizationId : placeOfPool(sprite.poolId);
}

/** What a spare becomes when it is claimed. */
export interface SpriteClaim {
  name: string;
  /** Added to those it has. */
  labels: readonly string[];
  environment: Readonly<Record<string, string>>;
}

/** The record of a sprite that is about to be made. */
export function newSprite(
  request: CreateSprite,
  config: SpriteConfig,
  made: { id: string; origin: SpriteOrigin; poolId: string | undefined; nowMs: number },
): Sprite {
  return {
    id: made.id,
    organizationId: request.organizationId,
    name: request.name,
    config,
    environment: request.environment,
    labels: request.labels,
    urlSettings: { auth: request.urlSettings.auth ?? "sprite", privateAccess: request.urlSettings.privateAccess },
    idleSeconds: request.idleSeconds,
    imageName: made.origin.image.name,
    imageDigest: made.origin.image.digest,
    createdAtMs: made.nowMs,
    updatedAtMs: made.nowMs,
    lastRunningAtMs: undefined,
    poolId: made.poolId,
  };
}

/** The sprite that a spare becomes: somebody's own, from now on. */
export function claimedSprite(spare: Sprite, claim: SpriteClaim, nowMs: number): Sprite {
  return {
    ...spare,
    name: claim.name,
    poolId: undefined,
    labels: [...new Set([...spare.labels, ...claim.labels])],
    environment: { ...spare.environment, ...claim.environment },
    createdAtMs: nowMs,
    updatedAtMs: nowMs,
  };
}

export interface SpriteConfig {
  cpus: number;
  memoryMib: number;
  storageGb: number;
}

export interface UrlSettings {
  auth: "sprite" | "public";
  privateAccess: string | undefined;
}

export type SpriteStatus = "cold" | "warm" | "running";

/** A sprite with what callers may know about its machine. */
export interface SpriteView extends Sprite {
  organizationSlug: string;
  status: SpriteStatus;
  /** Why the sprite cannot be used, when its state is `failed`. */
  failure: string | undefined;
  /** Why the processes of a sprite that is cold now could not be kept, when that was not asked for. */
  memoryLost?: string | undefined;
}

export interface CreateSprite {
  organizationId: string;
  name: string;
  config: Partial<SpriteConfig>;
  environment: Record<string, string>;
  labels: string[];
  urlSettings: Partial<UrlSettings>;
  idleSeconds?: number | undefined;
  /** Base image; the configured default when left out. */
  imageName: string | undefined;
}

/** A state that a sprite begins with instead of an image's: a checkpoint's, a template's. Its files must stay until the create has answered. */
export interface SpriteOrigin {
  diskPath: string;
  image: { name: string; digest: string };
  /** Data on the disk, bytes. */
  diskBytes: number;
  /** A memory that fits the disk; then the sprite begins asleep in it. */
  memory?: { ramPath: string; statePath: string; record: MemoryRecord } | undefined;
}

/** How a sprite is made beside what its owner asks for. */
export interface CreateOptions {
  signal?: AbortSignal | undefined;
  origin?: SpriteOrigin | undefined;
  /** Makes a spare of that pool with that id, under any name. */
  spare?: { spriteId: string; poolId: string } | undefined;
  /** Makes it part of a batch: nobody meets it before that is finished, and it goes with the batch. */
  batchId?: string | undefined;
}

export interface UpdateSprite {
  labels?: string[] | undefined;
  urlSettings?: Partial<UrlSettings> | undefined;
  /** Null: the server's default again. */
  idleSeconds?: number | null | undefined;
}

export interface SpritePage {
  sprites: SpriteView[];
  /** Opaque; undefined on the last page. */
  continuationToken: string | undefined;
}

export interface StatusCounts {
  running: number;
  warm: number;
  cold: number;
}

export interface SpriteCheck {
  status: "healthy" | "hibernated" | "unhealthy" | "error";
  reason: string | undefined;
  elapsedMs: number;
}

/**
 * The hub: everything other features may ask of sprites. All calls throw `ApiError` with codes
 * of the registry (`sprite_not_found`, `sprite_name_taken`, …). A sprite of another organization
 * is not found.
 */
export interface Sprites {
  /** Resolves when disk and record exist; the sprite is cold, or asleep with the memory of its origin. */
  create(request: CreateSprite, options?: CreateOptions): Promise<SpriteView>;
  get(organizationId: string, name: string): SpriteView;
  list(
    organizationId: string,
    query: { prefix?: string | undefined; continuationToken?: string | undefined; maxResults: number },
  ): SpritePage;
  counts(organizationId: string): StatusCounts;
  update(organizationId: string, name: string, change: UpdateSprite): Promise<SpriteView>;
  /** Ends its VM and frees everything. */
  delete(organizationId: string, name: string): Promise<void>;
  /** Ends the VM in order; the disk stays. The next use wakes it. Returns the new view. */
  stop(organizationId: string, name: string): Promise<SpriteView>;
  /** Puts the sprite to sleep with its memory: no process and no RAM stay. Nothing to do for one that sleeps or is cold. */
  sleep(organizationId: string, name: string): Promise<SpriteView>;
  /** Wakes the sprite and resolves when commands can run. */
  wake(organizationId: string, name: string, options?: { signal?: AbortSignal }): Promise<SpriteView>;
  /** Stop, then wake. Returns the new incarnation. */
  restart(organizationId: string, name: string): Promise<{ incarnation: string }>;
  /** Asks the agent of a running sprite; never wakes one. */
  check(organizationId: string, name: string): Promise<SpriteCheck>;
  /** Announces every change of status or record, for live lists. Returns how to unsubscribe. */
  subscribe(listener: (view: SpriteView, change: "changed" | "deleted") => void): () => void;
}

/** The fields that a change names. */
export function definedOnly<T extends object>(value: Partial<T> | undefined): Partial<T> {
  return Object.fromEntries(Object.entries(value ?? {}).filter(([, field]) => field !== undefined)) as Partial<T>;
}
