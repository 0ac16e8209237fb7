/** Pools over simulated sprites and the real store: what is ready, who gets it, and what a crash leaves. */
import { silentLogger } from "@sprited/base";
import { afterEach, describe, expect, test } from "vitest";
import { poolRecords } from "../store/index.ts";
import { type PoolConfig, type PoolCounts, Pools } from "./index.ts";
import { CLAIM, closeLater, closePools, CONFIG, ORGANIZATION, poolTestbed } from "./testing/pool-testbed.ts";

afterEach(closePools);

describe("pools", () => {
  test("[POOL-2] a new pool fills up to its min", async () => {
    const bed = poolTestbed();
    expect(bed.create()).toMatchObject({ ready: 0, filling: 2, aim: 2 });
    await expect.poll(bed.ready).toBe(2);
  });

  test("[POOL-4] [POOL-5] claims at once give different sprites, with name and labels, and the pool fills again", async () => {
    const bed = poolTestbed();
    bed.create({ min: 4, max: 8 });
    await expect.poll(bed.ready).toBe(4);
    const claimed = await Promise.all([1, 2, 3, 4].map((index) => bed.claim({ name: `c${index}`, labels: ["x"] })));
    expect(new Set(claimed.map(({ id }) => id)).size).toBe(4);
    expect([...bed.sprites.sprites.values()].filter(({ name }) => name?.startsWith("c")).every(({ labels }) => labels[0] === "x")).toBe(
      true,
    );
    await expect.poll(() => bed.pools.get(ORGANIZATION, "p")).toMatchObject({ ready: 8, claimed: 4, aim: 8 });
  });

  test("[POOL-6] a repeated claim gets the same sprite, also while the first is under way and after a restart", async () => {
    const bed = poolTestbed();
    bed.create();
    await expect.poll(bed.ready).toBe(2);
    const [first, second] = await Promise.all([bed.claim({ idempotencyKey: "k" }), bed.claim({ idempotencyKey: "k" })]);
    expect(second.id).toBe(first.id);
    const again = await bed.open().claim(ORGANIZATION, "p", { ...CLAIM, idempotencyKey: "k" });
    expect(again.id).toBe(first.id);
    await expect(bed.claim({ idempotencyKey: "k", name: "other" })).rejects.toMatchObject({ code: "idempotency_key_reused" });
  });

  test("[POOL-7] an empty pool says so with a pause, and a patient claim waits its turn", async () => {
    const bed = poolTestbed();
    bed.sprites.fillMs = 30;
    bed.create({ min: 0, max: 2 });
    await expect(bed.claim()).rejects.toMatchObject({ code: "pool_empty", details: { retry_after_seconds: expect.any(Number) } });
    const order: string[] = [];
    const waiting = ["a", "b"].map(async (name) => order.push((await bed.claim({ name, isPatient: true })).name));
    expect(bed.pools.get(ORGANIZATION, "p").waiting).toBe(2);
    await Promise.all(waiting);
    expect(order).toEqual(["a", "b"]);
  });

  test("[POOL-7] who gives up waiting is served nothing", async () => {
    const bed = poolTestbed();
    bed.sprites.fillMs = 30;
    bed.create({ min: 0, max: 1 });
    const abort = new AbortController();
    const left = bed.claim({ name: "left", isPatient: true }, { signal: abort.signal });
    const stayed = bed.claim({ name: "stayed", isPatient: true });
    abort.abort(new Error("left"));
    await expect(left).rejects.toThrow("left");
    expect((await stayed).name).toBe("stayed");
    expect([...bed.sprites.sprites.values()].some(({ name }) => name === "left")).toBe(false);
  });

  test("[POOL-3] [POOL-9] a set-up command that fails keeps the spare from being ready, and the pool says why", async () => {
    const bed = poolTestbed();
    bed.sprites.problem = "npm: no such file";
    bed.create({ min: 1, max: 1, setup: ["npm", "ci"] });
    await expect.poll(() => bed.pools.get(ORGANIZATION, "p").lastError?.message).toBe("npm: no such file");
    expect(bed.ready()).toBe(0);
    expect(bed.sprites.sprites.size).toBe(0);
    bed.sprites.problem = undefined;
    await expect.poll(bed.ready, { timeout: 5000 }).toBe(1);
    expect(bed.sprites.setups.length).toBeGreaterThanOrEqual(2);
    expect(bed.pools.get(ORGANIZATION, "p").lastError).toBeUndefined();
  });

  test("[POOL-10] a new version of the template rolls the pool", async () => {
    const bed = poolTestbed();
    bed.create();
    await expect.poll(bed.ready).toBe(2);
    bed.sprites.version = 2;
    bed.pools.templateChanged(ORGANIZATION, "t");
    await expect.poll(() => [...bed.sprites.sprites.values()].map(({ version }) => version)).toEqual([2, 2]);
    expect(bed.pools.get(ORGANIZATION, "p")).toMatchObject({ ready: 2, outdated: 0, templateVersion: 2 });
  });

  test("[POOL-13] a restart keeps ready spares and discards those that were filling or are gone", async () => {
    const bed = poolTestbed();
    bed.create();
    await expect.poll(bed.ready).toBe(2);
    const [gone] = bed.sprites.sprites.keys();
    bed.sprites.sprites.delete(gone ?? "");
    poolRecords<PoolConfig, PoolCounts>(bed.database).insertSpare({
      spriteId: "half",
      poolId: bed.pools.get(ORGANIZATION, "p").id,
      templateVersion: 1,
      state: "filling",
      sinceMs: Date.now(),
    });
    bed.sprites.sprites.set("half", { name: undefined, version: 1, labels: [] });
    const again = bed.open();
    await expect.poll(() => again.get(ORGANIZATION, "p").ready).toBe(2);
    expect(bed.sprites.sprites.has("half")).toBe(false);
  });

  test("[POOL-12] deleting a pool frees its spares and nothing else", async () => {
    const bed = poolTestbed();
    bed.create();
    await expect.poll(bed.ready).toBe(2);
    await bed.claim({ name: "mine" });
    await bed.pools.delete(ORGANIZATION, "p");
    expect([...bed.sprites.sprites.values()].map(({ name }) => name)).toEqual(["mine"]);
    expect(() => bed.pools.get(ORGANIZATION, "p")).toThrow(expect.objectContaining({ code: "pool_not_found" }));
  });

  test("a name that is taken leaves the spare ready", async () => {
    const bed = poolTestbed();
    bed.create({ min: 1, max: 1 });
    await expect.poll(bed.ready).toBe(1);
    bed.sprites.sprites.set("other", { name: "taken", version: 0, labels: [] });
    await expect(bed.claim({ name: "taken" })).rejects.toMatchObject({ code: "sprite_name_taken" });
    expect(bed.ready()).toBe(1);
    expect((await bed.claim({ name: "free" })).name).toBe("free");
  });

  test("[POOL-9] a store that cannot be written for a while ends nothing: the pool says so and fills later", async () => {
    const bed = poolTestbed();
    const records = poolRecords<PoolConfig, PoolCounts>(bed.database);
    let isBroken = true;
    const failing = (): void => {
      if (isBroken) throw new Error("EIO");
    };
    const pools = new Pools({
      records: {
        ...records,
        insertSpare: (spare) => (failing(), records.insertSpare(spare)),
        updateSpare: (spare) => (failing(), records.updateSpare(spare)),
      },
      sprites: bed.sprites,
      organizationSlug: () => "local",
      logger: silentLogger,
      nowMs: Date.now,
    });
    closeLater(pools);
    pools.recover();
    pools.create({ organizationId: ORGANIZATION, name: "p", templateName: "t", config: { ...CONFIG, min: 1 } });
    expect(pools.get(ORGANIZATION, "p").lastError).toMatchObject({ message: "a fault of the server" });
    isBroken = false;
    await expect.poll(() => pools.get(ORGANIZATION, "p").ready, { timeout: 10_000 }).toBe(1);
  });

  test("max below min is refused by name", () => {
    const bed = poolTestbed();
    expect(() => bed.create({ min: 3, max: 2 })).toThrow(expect.objectContaining({ code: "body_invalid" }));
  });
});
