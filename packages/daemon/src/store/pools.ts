/** Queries on pools, their spares and claims. `Config` and `Counts` are what was stored; their form is the caller's. */
import type { Database } from "./database.ts";
import { StoreError } from "./errors.ts";

interface PoolRow<Config, Counts> {
  id: string;
  organizationId: string;
  name: string;
  templateName: string;
  config: Config;
  claimed: number;
  /** Written by `updateCounts` alone. */
  counts?: Counts | undefined;
  createdAtMs: number;
  updatedAtMs: number;
}

interface SpareRow {
  spriteId: string;
  poolId: string;
  templateVersion: number;
  state: "filling" | "ready";
  sinceMs: number;
}

interface ClaimRow {
  organizationId: string;
  key: string;
  poolId: string;
  spriteId: string;
  askedName: string | undefined;
  spriteName: string;
  claimedAtMs: number;
}

/** Everything the pool feature asks of the store. */
export function poolRecords<Config, Counts>(database: Database) {
  return { ...poolQueries<Config, Counts>(database), ...spareQueries(database), ...claimQueries(database) };
}

function poolQueries<Config, Counts>(database: Database) {
  const { query } = database;
  return {
    loadPools: (): PoolRow<Config, Counts>[] =>
      database.all(query.selectFrom("pools").selectAll()).map((row) => ({
        id: row.id,
        organizationId: row.organization_id,
        name: row.name,
        templateName: row.template_name,
        config: parse<Config>(row.id, row.config),
        claimed: row.claimed,
        counts: row.counts === null ? undefined : parse<Counts>(row.id, row.counts),
        createdAtMs: row.created_at_ms,
        updatedAtMs: row.updated_at_ms,
      })),
    insertPool: (pool: PoolRow<Config, Counts>): void => {
      const fixed = { id: pool.id, organization_id: pool.organizationId, created_at_ms: pool.createdAtMs, claimed: pool.claimed };
      database.run(query.insertInto("pools").values({ ...fixed, ...changeable(pool) }));
    },
    /** Writes the settings; never a count. */
    updatePool: (pool: PoolRow<Config, Counts>): void => {
      database.run(query.updateTable("pools").set(changeable(pool)).where("id", "=", pool.id));
    },
    updateCounts: (poolId: string, counts: Counts): void => {
      database.run(
        query
          .updateTable("pools")
          .set({ counts: JSON.stringify(counts) })
          .where("id", "=", poolId),
      );
    },
    deletePool: (poolId: string): void =>
      database.transaction(() => {
        database.run(query.deleteFrom("pool_spares").where("pool_id", "=", poolId));
        database.run(query.deleteFrom("pools").where("id", "=", poolId));
      }),
  };
}

function spareQueries(database: Database) {
  const { query } = database;
  return {
    loadSpares: (): SpareRow[] =>
      database.all(query.selectFrom("pool_spares").selectAll().orderBy("since_ms").orderBy("sprite_id")).map((row) => ({
        spriteId: row.sprite_id,
        poolId: row.pool_id,
        templateVersion: row.template_version,
        state: row.state === "ready" ? "ready" : "filling",
        sinceMs: row.since_ms,
      })),
    insertSpare: (spare: SpareRow): void => {
      database.run(query.insertInto("pool_spares").values({ sprite_id: spare.spriteId, pool_id: spare.poolId, ...spareColumns(spare) }));
    },
    updateSpare: (spare: SpareRow): void => {
      database.run(query.updateTable("pool_spares").set(spareColumns(spare)).where("sprite_id", "=", spare.spriteId));
    },
    deleteSpare: (spriteId: string): void => {
      database.run(query.deleteFrom("pool_spares").where("sprite_id", "=", spriteId));
    },
    /** The spare is a sprite now: forgets it and counts the claim. */
    spareClaimed: (spare: SpareRow): void =>
      database.transaction(() => {
        database.run(query.deleteFrom("pool_spares").where("sprite_id", "=", spare.spriteId));
        database.run(
          query
            .updateTable("pools")
            .set((e) => ({ claimed: e("claimed", "+", 1) }))
            .where("id", "=", spare.poolId),
        );
      }),
  };
}

function claimQueries(database: Database) {
  const { query } = database;
  return {
    findClaim: (organizationId: string, key: string): ClaimRow | undefined => {
      const row = database.first(
        query.selectFrom("pool_claims").selectAll().where("organization_id", "=", organizationId).where("idempotency_key", "=", key),
      );
      if (!row) return undefined;
      return {
        organizationId: row.organization_id,
        key: row.idempotency_key,
        poolId: row.pool_id,
        spriteId: row.sprite_id,
        askedName: row.asked_name ?? undefined,
        spriteName: row.sprite_name,
        claimedAtMs: row.claimed_at_ms,
      };
    },
    insertClaim: (claim: ClaimRow): void => {
      database.run(
        query.insertInto("pool_claims").values({
          organization_id: claim.organizationId,
          idempotency_key: claim.key,
          pool_id: claim.poolId,
          sprite_id: claim.spriteId,
          asked_name: claim.askedName ?? null,
          sprite_name: claim.spriteName,
          claimed_at_ms: claim.claimedAtMs,
        }),
      );
    },
    deleteClaims: (beforeMs: number): void => {
      database.run(query.deleteFrom("pool_claims").where("claimed_at_ms", "<", beforeMs));
    },
  };
}

function spareColumns(spare: SpareRow) {
  return { state: spare.state, since_ms: spare.sinceMs, template_version: spare.templateVersion };
}

function changeable<Config>(pool: PoolRow<Config, unknown>) {
  return {
    name: pool.name,
    template_name: pool.templateName,
    config: JSON.stringify(pool.config),
    updated_at_ms: pool.updatedAtMs,
  };
}

function parse<T>(poolId: string, text: string): T {
  try {
    return JSON.parse(text) as T;
  } catch (cause) {
    throw new StoreError("store_damaged", `pool ${poolId}: a record that is not JSON`, { cause });
  }
}
