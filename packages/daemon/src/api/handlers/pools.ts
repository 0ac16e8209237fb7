/** Handlers of pools. */
import { requireSpriteName } from "../../organization/index.ts";
import type { PoolConfig, PoolView } from "../../pool/index.ts";
import type { HandlerTable } from "../handler.ts";
import { spriteView, timeView } from "../view.ts";

type PoolHandlers = Pick<HandlerTable, "createPool" | "listPools" | "getPool" | "updatePool" | "deletePool" | "claimSprite">;

/** Spares that may exist beyond `min` when a pool names no `max`. */
const MAX_ABOVE_MIN = 4;
const SETUP_TIMEOUT_SECONDS = 1800;
const REFILL_PER_MINUTE = 60;

export const poolHandlers: PoolHandlers = {
  createPool({ body, caller, context }) {
    const min = body.min ?? 1;
    const config: PoolConfig = {
      min,
      max: body.max ?? Math.max(1, min + MAX_ABOVE_MIN),
      spare: body.spare ?? "hibernated",
      setup: body.setup ?? undefined,
      setupTimeoutMs: (body.setup_timeout_seconds ?? SETUP_TIMEOUT_SECONDS) * 1000,
      maxAgeMs: secondsToMs(body.max_age_seconds),
      refillPerMinute: body.refill_per_minute ?? REFILL_PER_MINUTE,
    };
    const { organizationId } = caller;
    return poolView(context.features.pools.create({ organizationId, name: body.name, templateName: body.template, config }));
  },

  listPools({ caller, context }) {
    return { pools: context.features.pools.list(caller.organizationId).map(poolView) };
  },

  getPool({ params, caller, context }) {
    return poolView(context.features.pools.get(caller.organizationId, params.pool));
  },

  updatePool({ params, body, caller, context }) {
    const config: Partial<PoolConfig> = {
      ...(body.min === undefined ? {} : { min: body.min }),
      ...(body.max === undefined ? {} : { max: body.max }),
      ...(body.spare === undefined ? {} : { spare: body.spare }),
      ...(body.setup === undefined ? {} : { setup: body.setup ?? undefined }),
      ...(body.setup_timeout_seconds === undefined ? {} : { setupTimeoutMs: body.setup_timeout_seconds * 1000 }),
      ...(body.max_age_seconds === undefined ? {} : { maxAgeMs: secondsToMs(body.max_age_seconds) }),
      ...(body.refill_per_minute === undefined ? {} : { refillPerMinute: body.refill_per_minute }),
    };
    return poolView(context.features.pools.update(caller.organizationId, params.pool, { templateName: body.template, config }));
  },

  async deletePool({ params, caller, context }) {
    await context.features.pools.delete(caller.organizationId, params.pool);
    return undefined;
  },

  async claimSprite({ params, body, caller, context, signal }) {
    if (body?.name !== undefined) requireSpriteName(caller, body.name);
    else requireSpriteName(caller, `${params.pool}-`);
    const request = {
      name: body?.name,
      labels: [...new Set(body?.labels ?? [])],
      environment: body?.environment ?? {},
      idempotencyKey: body?.idempotency_key,
      isPatient: body?.wait_for_capacity ?? false,
    };
    return spriteView(context, await context.features.pools.claim(caller.organizationId, params.pool, request, { signal }));
  },
};

function poolView(pool: PoolView) {
  const { config } = pool;
  return {
    name: pool.name,
    organization: pool.organizationSlug,
    template: pool.templateName,
    template_version: pool.templateVersion ?? null,
    min: config.min,
    max: config.max,
    spare: config.spare,
    setup: config.setup ?? null,
    setup_timeout_seconds: Math.round(config.setupTimeoutMs / 1000),
    max_age_seconds: config.maxAgeMs === undefined ? null : Math.round(config.maxAgeMs / 1000),
    refill_per_minute: config.refillPerMinute,
    aim: pool.aim,
    ready: pool.ready,
    filling: pool.filling,
    claimed: pool.claimed,
    outdated: pool.outdated,
    waiting: pool.waiting,
    fill_seconds: msToSeconds(pool.fillMs),
    last_error: pool.lastError
      ? { message: pool.lastError.message, at: timeView(pool.lastError.atMs), failures: pool.lastError.failures }
      : null,
    metrics: metricsView(pool),
    created_at: timeView(pool.createdAtMs),
    updated_at: timeView(pool.updatedAtMs),
  };
}

function metricsView({ claimed, waiting, counts, times, lastFailure }: PoolView) {
  return {
    claims_served: claimed,
    claims_empty: counts.empty,
    claims_refused: counts.refused,
    claims_waiting: waiting,
    claim_ms: { p50: tenths(times.claimP50Ms), p99: tenths(times.claimP99Ms) },
    fills: counts.filled,
    fills_failed: counts.failed,
    fill_seconds: { p50: msToSeconds(times.fillP50Ms), last: msToSeconds(times.fillLastMs) },
    last_failure: lastFailure ? { code: lastFailure.code, at: timeView(lastFailure.atMs) } : null,
    spares_aged: counts.aged,
    spares_rolled: counts.rolled,
  };
}

function tenths(ms: number | undefined): number | null {
  return ms === undefined ? null : Math.round(ms * 10) / 10;
}

function msToSeconds(ms: number | undefined): number | null {
  return ms === undefined ? null : Math.round(ms) / 1000;
}

function secondsToMs(seconds: number | null | undefined): number | undefined {
  return seconds === null || seconds === undefined ? undefined : seconds * 1000;
}
