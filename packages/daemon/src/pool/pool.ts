/** A pool as other features see it. All calls throw `ApiError`. */
import type { SpriteView } from "../sprite/index.ts";
import type { PoolSettings } from "./plan.ts";
import type { FillFailure, PoolCounts, PoolTimes } from "./statistics.ts";

/** What spares wait as. */
export type SpareRest = "hibernated" | "paused";

export interface PoolConfig extends PoolSettings {
  spare: SpareRest;
  /** Run in each spare before it counts as ready. */
  setup: string[] | undefined;
  setupTimeoutMs: number;
}

export interface PoolRecord {
  id: string;
  organizationId: string;
  name: string;
  templateName: string;
  config: PoolConfig;
  /** Claims since the pool was made. */
  claimed: number;
  /** As they were written last; undefined before the first time. */
  counts?: PoolCounts | undefined;
  createdAtMs: number;
  updatedAtMs: number;
}

export interface PoolView extends PoolRecord {
  counts: PoolCounts;
  times: PoolTimes;
  lastFailure: FillFailure | undefined;
  organizationSlug: string;
  /** Version that is filled with now; undefined when the template is gone. */
  templateVersion: number | undefined;
  aim: number;
  ready: number;
  filling: number;
  /** Ready spares of another version. */
  outdated: number;
  /** Claims that wait for a spare. */
  waiting: number;
  /** How long the last fillings took, mean. */
  fillMs: number | undefined;
  lastError: { message: string; atMs: number; failures: number } | undefined;
}

export interface CreatePool {
  organizationId: string;
  name: string;
  templateName: string;
  config: PoolConfig;
}

export interface ClaimSprite {
  /** Made from the pool's name when left out. */
  name: string | undefined;
  labels: string[];
  environment: Record<string, string>;
  idempotencyKey: string | undefined;
  /** Wait in line when nothing is ready. */
  isPatient: boolean;
}

export interface Pools {
  create(request: CreatePool): PoolView;
  list(organizationId: string): PoolView[];
  get(organizationId: string, name: string): PoolView;
  update(organizationId: string, name: string, change: { templateName?: string | undefined; config: Partial<PoolConfig> }): PoolView;
  /** Resolves when its spares are gone. */
  delete(organizationId: string, name: string): Promise<void>;
  claim(organizationId: string, name: string, request: ClaimSprite, options?: { signal?: AbortSignal }): Promise<SpriteView>;
  /** Names of the pools that fill from a template. */
  usersOf(organizationId: string, templateName: string): string[];
}
