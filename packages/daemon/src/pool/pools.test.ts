/** Pools over simulated sprites and the real store: what is ready, who gets it, and what a crash leaves. */
import { silentLogger, sleep } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import { afterEach, describe, expect, test } from "vitest";
import { type Database, insertOrganization, openDatabase, poolRecords } from "../store/index.ts";
import type { SpriteView } from "../sprite/index.ts";
import { type ClaimSprite, type PoolConfig, Pools, type PoolSprites } from "./index.ts";

const ORGANIZATION = "o1";
const CONFIG: PoolConfig = {
  min: 2,
  max: 4,
  maxAgeMs: undefined,
  refillPerMinute: 1000,
  spare: "hibernated",
  setup: undefined,
  setupTimeoutMs: 1000,
};
const CLAIM: ClaimSprite = { name: undefined, labels: [], environment: {}, idempotencyKey: undefined, isPatient: false };

/** Sprites that exist in a map; a test decides how long and how well they are made. */
class SimulatedSprites implements PoolSprites {
  readonly sprites = new Map<string, { name: string | undefined; version: number; labels: string[] }>();
  version: number | undefined = 1;
  problem: string | undefined;
  fillMs = 0;
  readonly setups: string[][] = [];
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  currentVersion(): number | undefined {
    return this.version;
  }

  async createSpare(spare: { spriteId: string; templateVersion: number }, options: { signal: AbortSignal }): Promise<void> {
    await sleep(this.fillMs, options);
    this.sprites.set(spare.spriteId, { name: undefined, version: spare.templateVersion, labels: [] });
  }

  async runSetup(_spare: unknown, argv: string[]): Promise<{ problem: string } | undefined> {
    this.setups.push(argv);
    return this.problem === undefined ? undefined : { problem: this.problem };
  }

  async settle(): Promise<void> {}

  isSound(spriteId: string): boolean {
    return this.sprites.has(spriteId);
  }

  claim(spriteId: string, claim: { name: string; labels: string[]; environment: Record<string, string> }, record: () => void): SpriteView {
    if ([...this.sprites.values()].some(({ name }) => name === claim.name)) throw new ApiError("sprite_name_taken", "taken");
    this.#database.transaction(record);
    this.sprites.set(spriteId, { name: claim.name, version: this.sprites.get(spriteId)?.version ?? 0, labels: claim.labels });
    return { id: spriteId, name: claim.name } as SpriteView;
  }

  view(_organizationId: string, spriteName: string): SpriteView {
    const found = [...this.sprites].find(([, sprite]) => sprite.name === spriteName);
    if (!found) throw new ApiError("sprite_not_found", "sprite not found");
    return { id: found[0], name: spriteName } as SpriteView;
  }

  async discard(spriteId: string): Promise<void> {
    this.sprites.delete(spriteId);
  }
}

const opened: Pools[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((pools) => pools.close()));
});

function testbed() {
  const database = openDatabase(":memory:");
  insertOrganization(database, { id: ORGANIZATION, slug: "local", name: "local", createdAtMs: 0 });
  const sprites = new SimulatedSprites(database);
  const open = (): Pools => {
    const pools = new Pools({
      records: poolRecords<PoolConfig>(database),
      sprites,
      organizationSlug: () => "local",
      logger: silentLogger,
      nowMs: Date.now,
    });
    pools.recover();
    opened.push(pools);
    return pools;
  };
  const pools = open();
  const create = (config: Partial<PoolConfig> = {}) =>
    pools.create({ organizationId: ORGANIZATION, name: "p", templateName: "t", config: { ...CONFIG, ...config } });
  const claim = (request: Partial<ClaimSprite> = {}, options: { signal?: AbortSignal } = {}) =>
    pools.claim(ORGANIZATION, "p", { ...CLAIM, ...request }, options);
  return { database, sprites, pools, open, create, claim, ready: () => pools.get(ORGANIZATION, "p").ready };
}

describe("pools", () => {
  test("[POOL-2] a new pool fills up to its min", async () => {
    const bed = testbed();
    expect(bed.create()).toMatchObject({ ready: 0, filling: 2, aim: 2 });
    await expect.poll(bed.ready).toBe(2);
  });

  test("[POOL-4] [POOL-5] claims at once give different sprites, with name and labels, and the pool fills again", async () => {
    const bed = testbed();
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
    const bed = testbed();
    bed.create();
    await expect.poll(bed.ready).toBe(2);
    const [first, second] = await Promise.all([bed.claim({ idempotencyKey: "k" }), bed.claim({ idempotencyKey: "k" })]);
    expect(second.id).toBe(first.id);
    const again = await bed.open().claim(ORGANIZATION, "p", { ...CLAIM, idempotencyKey: "k" });
    expect(again.id).toBe(first.id);
    await expect(bed.claim({ idempotencyKey: "k", name: "other" })).rejects.toMatchObject({ code: "idempotency_key_reused" });
  });

  test("[POOL-7] an empty pool says so with a pause, and a patient claim waits its turn", async () => {
    const bed = testbed();
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
    const bed = testbed();
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
    const bed = testbed();
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
    const bed = testbed();
    bed.create();
    await expect.poll(bed.ready).toBe(2);
    bed.sprites.version = 2;
    bed.pools.templateChanged(ORGANIZATION, "t");
    await expect.poll(() => [...bed.sprites.sprites.values()].map(({ version }) => version)).toEqual([2, 2]);
    expect(bed.pools.get(ORGANIZATION, "p")).toMatchObject({ ready: 2, outdated: 0, templateVersion: 2 });
  });

  test("[POOL-13] a restart keeps ready spares and discards those that were filling or are gone", async () => {
    const bed = testbed();
    bed.create();
    await expect.poll(bed.ready).toBe(2);
    const [gone] = bed.sprites.sprites.keys();
    bed.sprites.sprites.delete(gone ?? "");
    poolRecords<PoolConfig>(bed.database).insertSpare({
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
    const bed = testbed();
    bed.create();
    await expect.poll(bed.ready).toBe(2);
    await bed.claim({ name: "mine" });
    await bed.pools.delete(ORGANIZATION, "p");
    expect([...bed.sprites.sprites.values()].map(({ name }) => name)).toEqual(["mine"]);
    expect(() => bed.pools.get(ORGANIZATION, "p")).toThrow(expect.objectContaining({ code: "pool_not_found" }));
  });

  test("a name that is taken leaves the spare ready", async () => {
    const bed = testbed();
    bed.create({ min: 1, max: 1 });
    await expect.poll(bed.ready).toBe(1);
    bed.sprites.sprites.set("other", { name: "taken", version: 0, labels: [] });
    await expect(bed.claim({ name: "taken" })).rejects.toMatchObject({ code: "sprite_name_taken" });
    expect(bed.ready()).toBe(1);
    expect((await bed.claim({ name: "free" })).name).toBe("free");
  });

  test("[POOL-9] a store that cannot be written for a while ends nothing: the pool says so and fills later", async () => {
    const bed = testbed();
    const records = poolRecords<PoolConfig>(bed.database);
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
    opened.push(pools);
    pools.recover();
    pools.create({ organizationId: ORGANIZATION, name: "p", templateName: "t", config: { ...CONFIG, min: 1 } });
    expect(pools.get(ORGANIZATION, "p").lastError).toMatchObject({ message: "a fault of the server" });
    isBroken = false;
    await expect.poll(() => pools.get(ORGANIZATION, "p").ready, { timeout: 10_000 }).toBe(1);
  });

  test("max below min is refused by name", () => {
    const bed = testbed();
    expect(() => bed.create({ min: 3, max: 2 })).toThrow(expect.objectContaining({ code: "body_invalid" }));
  });
});
