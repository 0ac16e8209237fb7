/** The planner against a simulated pool: it reaches its aim, never goes beyond its bounds, and replaces before it discards. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { aimOf, FILLING_MAX, planPool, type PlannedSpare, type PoolSettings, type PoolSituation } from "./plan.ts";

const settingsArbitrary: fc.Arbitrary<PoolSettings> = fc
  .record({ min: fc.nat(6), above: fc.nat(6), maxAgeMs: fc.option(fc.integer({ min: 30_000, max: 600_000 }), { nil: undefined }) })
  .map(({ min, above, maxAgeMs }) => ({ min, max: Math.max(1, min + above), maxAgeMs, refillPerMinute: 60 }));

const eventArbitrary = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("pass" as const), ms: fc.integer({ min: 100, max: 40_000 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("filled" as const), ok: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("claim" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("version" as const) }) },
);

/** A pool that does at once what the plan says, and fills spares when told. */
class SimulatedPool {
  spares: PlannedSpare[] = [];
  version = 1;
  nowMs = 1_000_000;
  waiting = 0;
  claimsMs: number[] = [];
  begunMs: number[] = [];
  failures = { count: 0, lastMs: 0 };
  readonly settings: PoolSettings;
  #lastId = 0;

  constructor(settings: PoolSettings) {
    this.settings = settings;
  }

  get situation(): PoolSituation {
    return { ...this, settings: this.settings };
  }

  step(): number {
    const plan = planPool(this.situation);
    this.spares = this.spares.filter(({ id }) => !plan.discard.includes(id));
    for (let count = 0; count < plan.fill; count += 1) {
      this.spares.push({ id: String((this.#lastId += 1)), state: "filling", templateVersion: this.version, sinceMs: this.nowMs });
      this.begunMs.push(this.nowMs);
    }
    return plan.fill + plan.discard.length;
  }

  filled(ok: boolean): void {
    const spare = this.spares.find(({ state }) => state === "filling");
    if (!spare) return;
    if (ok) {
      spare.state = "ready";
      spare.sinceMs = this.nowMs;
      this.failures = { count: 0, lastMs: 0 };
    } else {
      this.spares = this.spares.filter((one) => one !== spare);
      this.failures = { count: this.failures.count + 1, lastMs: this.nowMs };
    }
  }

  get ready(): PlannedSpare[] {
    return this.spares.filter(({ state }) => state === "ready");
  }
}

describe("pool planner", () => {
  test("[POOL-2] [POOL-8] whatever happens, spares stay within max and fillings within their bound", () => {
    fc.assert(
      fc.property(settingsArbitrary, fc.array(eventArbitrary, { maxLength: 120 }), (settings, events) => {
        const pool = new SimulatedPool(settings);
        for (const event of events) {
          if (event.kind === "pass") pool.nowMs += event.ms;
          else if (event.kind === "filled") pool.filled(event.ok);
          else if (event.kind === "version") pool.version += 1;
          else {
            const [taken] = pool.ready;
            if (taken) pool.spares = pool.spares.filter((spare) => spare !== taken);
            if (taken) pool.claimsMs.push(pool.nowMs);
          }
          pool.step();
          expect(pool.spares.length).toBeLessThanOrEqual(settings.max);
          expect(pool.spares.filter(({ state }) => state === "filling").length).toBeLessThanOrEqual(FILLING_MAX);
        }
      }),
    );
  });

  test("[POOL-2] [POOL-10] left alone, a pool of any past reaches exactly its aim with spares of the current version, and rests", () => {
    fc.assert(
      fc.property(settingsArbitrary, fc.array(eventArbitrary, { maxLength: 60 }), (settings, events) => {
        const pool = new SimulatedPool({ ...settings, maxAgeMs: undefined });
        for (const event of events) {
          if (event.kind === "pass") pool.nowMs += event.ms;
          else if (event.kind === "filled") pool.filled(event.ok);
          else if (event.kind === "version") pool.version += 1;
          else pool.claimsMs.push(pool.nowMs);
          pool.step();
        }
        let quiet = 0;
        for (let round = 0; round < 400 && quiet < 3; round += 1) {
          pool.filled(true);
          const did = pool.step();
          const wait = planPool(pool.situation).nextMs;
          quiet = did === 0 && wait === undefined ? quiet + 1 : 0;
          if (did === 0 && wait !== undefined) pool.nowMs = wait;
        }
        expect(pool.spares.length).toBe(aimOf(pool.situation));
        expect(pool.ready.every(({ templateVersion }) => templateVersion === pool.version)).toBe(true);
      }),
    );
  });

  test("[POOL-10] rolling keeps as many ready as before until the new ones are", () => {
    const pool = new SimulatedPool({ min: 3, max: 4, maxAgeMs: undefined, refillPerMinute: 60 });
    for (let round = 0; round < 10; round += 1) {
      pool.step();
      pool.filled(true);
    }
    pool.version = 2;
    for (let round = 0; round < 20; round += 1) {
      pool.step();
      expect(pool.ready.length).toBeGreaterThanOrEqual(3);
      pool.filled(true);
    }
    pool.step();
    expect(pool.ready.map(({ templateVersion }) => templateVersion)).toEqual([2, 2, 2]);
  });

  test("[POOL-10] a full pool without room gives one old spare up at a time", () => {
    const pool = new SimulatedPool({ min: 2, max: 2, maxAgeMs: undefined, refillPerMinute: 60 });
    for (let round = 0; round < 6; round += 1) {
      pool.step();
      pool.filled(true);
    }
    pool.version = 2;
    for (let round = 0; round < 12; round += 1) {
      pool.step();
      expect(pool.ready.length).toBeGreaterThanOrEqual(1);
      pool.filled(true);
    }
    pool.step();
    expect(pool.ready.map(({ templateVersion }) => templateVersion)).toEqual([2, 2]);
  });

  test("[POOL-9] after a failure filling waits, longer each time, and at most a minute", () => {
    const pool = new SimulatedPool({ min: 1, max: 1, maxAgeMs: undefined, refillPerMinute: 1000 });
    const waits: number[] = [];
    for (let round = 0; round < 9; round += 1) {
      pool.step();
      pool.filled(false);
      const { fill, nextMs } = planPool(pool.situation);
      expect(fill).toBe(0);
      waits.push((nextMs ?? 0) - pool.nowMs);
      pool.nowMs = nextMs ?? 0;
    }
    expect(waits).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
  });

  test("[POOL-8] no more fillings begin within a minute than allowed", () => {
    const pool = new SimulatedPool({ min: 10, max: 20, maxAgeMs: undefined, refillPerMinute: 3 });
    for (let round = 0; round < 10; round += 1) {
      pool.step();
      pool.filled(true);
    }
    expect(pool.begunMs.length).toBe(3);
    expect(planPool(pool.situation).nextMs).toBe(pool.nowMs + 60_000);
  });

  test("[POOL-11] an aged spare goes only when a young one is ready", () => {
    const pool = new SimulatedPool({ min: 1, max: 2, maxAgeMs: 60_000, refillPerMinute: 60 });
    pool.step();
    pool.filled(true);
    const [old] = pool.ready;
    pool.nowMs += 60_000;
    pool.step();
    expect(pool.ready).toEqual([old]);
    pool.filled(true);
    pool.step();
    expect(pool.ready.length).toBe(1);
    expect(pool.ready[0]).not.toBe(old);
  });
});
