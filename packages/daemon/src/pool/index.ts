export type { ClaimSprite, CreatePool, PoolConfig, PoolRecord, Pools as PoolsFeature, PoolView, SpareRest } from "./pool.ts";
export { type ClaimRecord, type PoolEvent, type PoolRecords, Pools } from "./pools.ts";
export type { PoolSprites, SpareRecord } from "./spares.ts";
export type { PoolCounts } from "./statistics.ts";
export { poolSprites } from "./pool-sprites.ts";
