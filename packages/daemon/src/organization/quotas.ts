/**
 * What an organization may have at most. Checked before work starts, so that a refusal leaves
 * nothing behind. An organization without a quota is bounded by the host alone.
 */
import { ApiError, type ErrorCode } from "@sprited/protocol/errors";
import { type Database, loadQuotas, saveQuotas } from "../store/index.ts";

/** Undefined: no limit. */
export interface QuotaLimits {
  sprites: number | undefined;
  /** Sprites that run at the same time. */
  running: number | undefined;
  /** Host disk that its sprites, checkpoints and templates take, GB. */
  diskGb: number | undefined;
  /** Checkpoints of all its sprites, automatic ones too. */
  checkpoints: number | undefined;
}

export type QuotaKind = keyof QuotaLimits;

const NO_LIMITS: QuotaLimits = { sprites: undefined, running: undefined, diskGb: undefined, checkpoints: undefined };

const REFUSALS: Record<QuotaKind, { code: ErrorCode; what: string }> = {
  sprites: { code: "sprite_limit_exceeded", what: "sprites" },
  running: { code: "concurrent_sprite_limit_exceeded", what: "running sprites" },
  diskGb: { code: "disk_limit_exceeded", what: "GB of disk" },
  checkpoints: { code: "checkpoint_limit_exceeded", what: "checkpoints" },
};

export class Quotas {
  readonly #database: Database;
  readonly #limits: Map<string, QuotaLimits>;

  constructor(database: Database) {
    this.#database = database;
    this.#limits = new Map(loadQuotas(database).map(({ organizationId, ...limits }) => [organizationId, limits]));
  }

  of(organizationId: string): QuotaLimits {
    return this.#limits.get(organizationId) ?? NO_LIMITS;
  }

  /** Durable when it returns. What exists beyond a new limit stays. */
  set(organizationId: string, limits: QuotaLimits): void {
    saveQuotas(this.#database, { organizationId, ...limits });
    this.#limits.set(organizationId, limits);
  }

  /** Throws the kind's refusal unless `more` may be added to the `present` ones. */
  require(organizationId: string, kind: QuotaKind, present: number, more = 1): void {
    const limit = this.of(organizationId)[kind];
    if (limit === undefined || present + more <= limit) return;
    const { code, what } = REFUSALS[kind];
    throw new ApiError(code, `the organization may have ${limit} ${what} and has ${Math.ceil(present)}`, {
      details: { limit, current_count: Math.ceil(present) },
    });
  }
}
