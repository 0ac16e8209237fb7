/** What pools count of claims, fillings and spares, over simulated sprites and the real store. */
import { afterEach, describe, expect, test } from "vitest";
import { ApiError } from "@sprited/protocol/errors";
import type { PoolEvent, PoolView } from "./index.ts";
import { closePools, ORGANIZATION, poolTestbed } from "./testing/pool-testbed.ts";

afterEach(closePools);

/** Fillings take moments here, on a slow machine longer. */
const WAIT = { timeout: 15_000 };

const view = (bed: ReturnType<typeof poolTestbed>): PoolView => bed.pools.get(ORGANIZATION, "p");

describe("a pool counts", () => {
  test("[POOL-16] claims: served, empty, refused, waiting; repetitions are no claims", async () => {
    const bed = poolTestbed();
    const events: PoolEvent[] = [];
    bed.pools.events.add((event) => events.push(event));
    bed.create({ min: 1, max: 1 });
    await expect.poll(bed.ready, WAIT).toBe(1);
    await bed.claim({ name: "one", idempotencyKey: "k" });
    await bed.claim({ name: "one", idempotencyKey: "k" });
    await expect(bed.claim({ name: "other", idempotencyKey: "k" })).rejects.toMatchObject({ code: "idempotency_key_reused" });
    expect(view(bed)).toMatchObject({ claimed: 1, counts: { empty: 0, refused: 1 } });
    await expect.poll(bed.ready, WAIT).toBe(1);
    await expect(bed.claim({ name: "one" })).rejects.toMatchObject({ code: "sprite_name_taken" });
    expect(view(bed).counts).toMatchObject({ empty: 0, refused: 2 });

    bed.sprites.fillMs = 60_000;
    bed.pools.update(ORGANIZATION, "p", { config: { min: 0, max: 1 } });
    await bed.claim({ name: "two" });
    await expect(bed.claim()).rejects.toMatchObject({ code: "pool_empty" });
    const abort = new AbortController();
    const waiting = bed.claim({ isPatient: true }, { signal: abort.signal });
    expect(view(bed)).toMatchObject({ claimed: 2, waiting: 1, counts: { empty: 2, refused: 3 } });
    abort.abort(new Error("left"));
    await expect(waiting).rejects.toThrow("left");
    expect(view(bed)).toMatchObject({ claimed: 2, waiting: 0, counts: { empty: 2, refused: 4 } });
    expect(events.filter(({ kind }) => kind === "claimed")).toEqual([
      { kind: "claimed", organizationSlug: "local", pool: "p", durationMs: expect.any(Number) },
      { kind: "claimed", organizationSlug: "local", pool: "p", durationMs: expect.any(Number) },
    ]);
  });

  test("[POOL-16] [POOL-17] [POOL-18] fillings, with their time and the last failure", async () => {
    const bed = poolTestbed();
    bed.sprites.problem = "no";
    bed.create({ min: 1, max: 1, setup: ["false"] });
    await expect.poll(() => view(bed).lastFailure?.code, WAIT).toBe("setup_failed");
    expect(view(bed)).toMatchObject({ counts: { filled: 0 }, times: { fillLastMs: undefined, fillP50Ms: undefined } });
    bed.sprites.problem = undefined;
    await expect.poll(bed.ready, WAIT).toBe(1);
    const { counts, times, lastFailure, lastError } = view(bed);
    expect(counts.filled).toBe(1);
    expect(counts.failed).toBeGreaterThanOrEqual(1);
    expect(times).toMatchObject({ fillLastMs: expect.any(Number), fillP50Ms: times.fillLastMs });
    expect([lastFailure?.code, lastError]).toEqual(["setup_failed", undefined]);
  });

  test.each([
    ["an error with a code", new ApiError("host_memory_full", "full"), "host_memory_full"],
    ["a fault", new Error("secret detail"), "internal"],
  ])("[POOL-18] a filling that failed with %s", async (_what, fault, code) => {
    const bed = poolTestbed();
    bed.sprites.fault = fault;
    bed.create({ min: 1, max: 1 });
    await expect.poll(() => view(bed).lastFailure?.code, WAIT).toBe(code);
  });

  test("[POOL-16] spares that were retired: for another version, for their age, never for being too many", async () => {
    const bed = poolTestbed();
    bed.create({ min: 2, max: 3 });
    await expect.poll(bed.ready, WAIT).toBe(2);
    bed.sprites.version = 2;
    bed.pools.templateChanged(ORGANIZATION, "t");
    await expect.poll(() => view(bed), WAIT).toMatchObject({ ready: 2, outdated: 0, counts: { rolled: 2, aged: 0 } });
    bed.pools.update(ORGANIZATION, "p", { config: { min: 1 } });
    await expect.poll(bed.ready, WAIT).toBe(1);
    expect(view(bed).counts).toMatchObject({ rolled: 2, aged: 0 });
    bed.pools.update(ORGANIZATION, "p", { config: { maxAgeMs: 20 } });
    await expect.poll(() => view(bed).counts.aged, WAIT).toBeGreaterThanOrEqual(1);
    expect(view(bed).counts.rolled).toBe(2);
  });

  test("[POOL-16] [POOL-17] for the next daemon too; durations begin anew", async () => {
    const bed = poolTestbed();
    bed.create({ min: 1, max: 1 });
    await expect.poll(bed.ready, WAIT).toBe(1);
    await bed.claim({ name: "one" });
    await expect(bed.claim({ name: "one" })).rejects.toBeDefined();
    expect(view(bed).times.claimP99Ms).toEqual(expect.any(Number));
    await bed.pools.close();
    const { filled } = view(bed).counts;
    expect(filled).toBeGreaterThanOrEqual(1);
    const again = bed.open().get(ORGANIZATION, "p");
    expect(again).toMatchObject({ claimed: 1, counts: { filled, refused: 1 }, times: { claimP99Ms: undefined, fillLastMs: undefined } });
  });
});
