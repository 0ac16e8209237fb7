/** Pools over simulated sprites and the real store, for tests. */
import { silentLogger, sleep } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import { type Database, insertOrganization, openDatabase, poolRecords } from "../../store/index.ts";
import type { SpriteView } from "../../sprite/index.ts";
import { type ClaimSprite, type PoolConfig, type PoolCounts, Pools, type PoolSprites } from "../index.ts";

export const ORGANIZATION = "o1";
export const CONFIG: PoolConfig = {
  min: 2,
  max: 4,
  maxAgeMs: undefined,
  refillPerMinute: 1000,
  spare: "hibernated",
  setup: undefined,
  setupTimeoutMs: 1000,
};
export const CLAIM: ClaimSprite = { name: undefined, labels: [], environment: {}, idempotencyKey: undefined, isPatient: false };

/** Sprites that exist in a map; a test decides how long and how well they are made. */
class SimulatedSprites implements PoolSprites {
  readonly sprites = new Map<string, { name: string | undefined; version: number; labels: string[] }>();
  version: number | undefined = 1;
  /** What set-up commands end with. */
  problem: string | undefined;
  /** What creations fail with. */
  fault: Error | undefined;
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
    if (this.fault) throw this.fault;
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

/** Closes the pools of every testbed; call after each test. */
export async function closePools(): Promise<void> {
  await Promise.all(opened.splice(0).map((pools) => pools.close()));
}

/** Remembers pools that `closePools` is to close. */
export function closeLater(pools: Pools): void {
  opened.push(pools);
}

/** One host: a store, sprites in a map, and the pools of its first daemon; `open` is the next one. */
export function poolTestbed() {
  const database = openDatabase(":memory:");
  insertOrganization(database, { id: ORGANIZATION, slug: "local", name: "local", createdAtMs: 0 });
  const sprites = new SimulatedSprites(database);
  const open = (): Pools => {
    const pools = new Pools({
      records: poolRecords<PoolConfig, PoolCounts>(database),
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
