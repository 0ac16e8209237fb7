import { silentLogger } from "@sprited/base";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { NO_COUNTS, percentile, type PoolCounts, PoolStatistics } from "./statistics.ts";

describe("percentiles", () => {
  test("[POOL-17] are values that occurred, with as many at or below as asked for and no smaller one", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 1 }),
        fc.integer({ min: 1, max: 100 }),
        (values, percent) => {
          const found = percentile(values, percent) as number;
          const atMost = (limit: number): number => (values.filter((value) => value <= limit).length / values.length) * 100;
          expect(values).toContain(found);
          expect(atMost(found)).toBeGreaterThanOrEqual(percent - 1e-9);
          const smaller = values.filter((value) => value < found);
          if (smaller.length > 0) expect(atMost(Math.max(...smaller))).toBeLessThan(percent);
        },
      ),
    );
    expect(percentile([], 50)).toBeUndefined();
  });
});

describe("a pool's statistics", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  function opened(counts?: PoolCounts) {
    const written: PoolCounts[] = [];
    const faults: Error[] = [];
    const store = (changed: PoolCounts): void => {
      const fault = faults.pop();
      if (fault) throw fault;
      written.push(changed);
    };
    return { written, faults, statistics: new PoolStatistics(counts, { store, logger: silentLogger }) };
  }

  test("[POOL-16] counts go on from where they were and are written once, soon after a change", () => {
    const { written, statistics } = opened({ ...NO_COUNTS, empty: 7 });
    for (let count = 0; count < 100; count += 1) statistics.count("empty");
    statistics.failed({ code: "timed_out", atMs: 5 });
    expect(written).toEqual([]);
    vi.advanceTimersByTime(5_000);
    expect(written).toEqual([{ ...NO_COUNTS, empty: 107, failed: 1 }]);
    vi.advanceTimersByTime(60_000);
    expect(written).toHaveLength(1);
    statistics.count("aged");
    statistics.close();
    expect(written.at(-1)).toEqual({ ...NO_COUNTS, empty: 107, failed: 1, aged: 1 });
  });

  test("[POOL-16] a store that takes nothing loses no count", () => {
    const { written, faults, statistics } = opened();
    faults.push(new Error("full"), new Error("full"));
    statistics.count("refused");
    vi.advanceTimersByTime(10_000);
    expect([written, statistics.counts.refused]).toEqual([[], 1]);
    vi.advanceTimersByTime(5_000);
    expect(written).toEqual([{ ...NO_COUNTS, refused: 1 }]);
  });

  test("[POOL-17] samples are of the last ones only; there is no number before the first", () => {
    const { statistics } = opened();
    expect(statistics.times).toEqual({ claimP50Ms: undefined, claimP99Ms: undefined, fillP50Ms: undefined, fillLastMs: undefined });
    expect(statistics.expectedFillMs).toBeUndefined();
    for (let ms = 1; ms <= 356; ms += 1) statistics.served(ms);
    for (let ms = 1; ms <= 70; ms += 1) statistics.filled(ms);
    // Claims 101 to 356, fillings 7 to 70; the last eight fillings are 63 to 70.
    expect(statistics.times).toEqual({ claimP50Ms: 228, claimP99Ms: 354, fillP50Ms: 38, fillLastMs: 70 });
    expect(statistics.expectedFillMs).toBe(66.5);
    expect(statistics.counts).toEqual({ ...NO_COUNTS, filled: 70 });
  });

  test("[POOL-18] the last failure stays when fillings end well again", () => {
    const { statistics } = opened();
    statistics.failed({ code: "setup_failed", atMs: 1 });
    statistics.failed({ code: "host_memory_full", atMs: 2 });
    statistics.filled(1);
    expect(statistics.lastFailure).toEqual({ code: "host_memory_full", atMs: 2 });
  });

  test("nothing is written of a pool that is gone, or after the end", () => {
    const gone = opened();
    gone.statistics.count("empty");
    gone.statistics.forget();
    gone.statistics.count("empty");
    const ended = opened();
    ended.statistics.count("empty");
    ended.faults.push(new Error("full"));
    ended.statistics.close();
    ended.statistics.count("refused");
    vi.advanceTimersByTime(60_000);
    gone.statistics.close();
    expect([gone.written, ended.written]).toEqual([[], []]);
  });
});
