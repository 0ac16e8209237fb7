/**
 * What a pool counts and measures (POOL-16 to POOL-18). Counts outlive the daemon, samples do not.
 *
 * Invariants: samples are bounded; counting never fails and never waits: the counts are written a
 * little later, and what could not be written is written with the next ones.
 */
import { after, type Logger } from "@sprited/base";

/** How long a changed count may wait to be written, ms. */
const STORE_AFTER_MS = 5_000;
/** Durations that percentiles are taken of. */
const CLAIMS_KEPT = 256;
const FILLS_KEPT = 64;
/** Fillings whose mean is what the next one is expected to take. */
const FILLS_EXPECTED = 8;

/** Since the pool was made. */
export interface PoolCounts {
  /** Claims that found no spare ready when they came. */
  empty: number;
  /** Claims that got no sprite. */
  refused: number;
  /** Fillings that ended well, and badly. */
  filled: number;
  failed: number;
  /** Ready spares that were discarded for their age, and for another version. */
  aged: number;
  rolled: number;
}

export const NO_COUNTS: PoolCounts = { empty: 0, refused: 0, filled: 0, failed: 0, aged: 0, rolled: 0 };

/** Durations in ms; undefined before the first. */
export interface PoolTimes {
  claimP50Ms: number | undefined;
  claimP99Ms: number | undefined;
  fillP50Ms: number | undefined;
  fillLastMs: number | undefined;
}

export interface FillFailure {
  code: string;
  atMs: number;
}

export class PoolStatistics {
  readonly #store: (counts: PoolCounts) => void;
  readonly #logger: Logger;
  #counts: PoolCounts;
  #claimsMs: number[] = [];
  #fillsMs: number[] = [];
  #lastFailure: FillFailure | undefined;
  #writing: Disposable | undefined;
  #isClosed = false;

  /** `counts`: as an earlier daemon left them. */
  constructor(counts: PoolCounts | undefined, options: { store(counts: PoolCounts): void; logger: Logger }) {
    this.#counts = { ...NO_COUNTS, ...counts };
    this.#store = (changed) => options.store(changed);
    this.#logger = options.logger;
  }

  get counts(): PoolCounts {
    return this.#counts;
  }

  get times(): PoolTimes {
    return {
      claimP50Ms: percentile(this.#claimsMs, 50),
      claimP99Ms: percentile(this.#claimsMs, 99),
      fillP50Ms: percentile(this.#fillsMs, 50),
      fillLastMs: this.#fillsMs.at(-1),
    };
  }

  /** Since the daemon started. */
  get lastFailure(): FillFailure | undefined {
    return this.#lastFailure;
  }

  /** How long a filling takes, mean of the last ones, ms; undefined before the first. */
  get expectedFillMs(): number | undefined {
    const last = this.#fillsMs.slice(-FILLS_EXPECTED);
    return last.length === 0 ? undefined : last.reduce((sum, ms) => sum + ms, 0) / last.length;
  }

  /** A claim was served after so long. Its count is written with the claim itself. */
  served(durationMs: number): void {
    this.#claimsMs = [...this.#claimsMs, durationMs].slice(-CLAIMS_KEPT);
  }

  filled(durationMs: number): void {
    this.#fillsMs = [...this.#fillsMs, durationMs].slice(-FILLS_KEPT);
    this.count("filled");
  }

  failed(failure: FillFailure): void {
    this.#lastFailure = failure;
    this.count("failed");
  }

  count(what: keyof PoolCounts): void {
    this.#counts = { ...this.#counts, [what]: this.#counts[what] + 1 };
    if (!this.#isClosed) this.#writing ??= after(STORE_AFTER_MS, () => this.#write());
  }

  /** Writes what is not written yet, and nothing any more. Never throws. */
  close(): void {
    if (this.#writing) this.#write();
    this.forget();
  }

  /** The pool is gone: nothing is written any more. */
  forget(): void {
    this.#isClosed = true;
    this.#writing?.[Symbol.dispose]();
    this.#writing = undefined;
  }

  #write(): void {
    this.#writing?.[Symbol.dispose]();
    this.#writing = undefined;
    try {
      this.#store(this.#counts);
    } catch (err) {
      this.#writing = after(STORE_AFTER_MS, () => this.#write());
      this.#logger.warn({ event: "pool.counts", outcome: "failed", err }, "a pool's counts were not written; tried again");
    }
  }
}

/** The smallest of `values` that at least `percent` of them do not exceed; undefined of none. Pure. */
export function percentile(values: readonly number[], percent: number): number | undefined {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)];
}
