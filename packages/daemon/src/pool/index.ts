export type { ClaimSprite, CreatePool, PoolConfig, PoolRecord, Pools as PoolsFeature, PoolView, SpareRest } from "./pool.ts";
export { type ClaimRecord, type PoolRecords, Pools } from "./pools.ts";
export type { PoolSprites, SpareRecord } from "./spares.ts";
export { poolSprites } from "./pool-sprites.ts";
