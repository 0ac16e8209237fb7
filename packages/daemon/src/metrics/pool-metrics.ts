/**
 * Pools. Their counts are the pool's own, read anew each time (METR-3); what a pool leaves goes with
 * it, so that pools which come and go do not make the answer longer (METR-2).
 */
import type { PoolEvent, PoolView } from "../pool/index.ts";
import type { Instruments } from "./instruments.ts";
import type { Told } from "./sprite-metrics.ts";

export interface PoolSource {
  /** Of every organization. */
  all(): PoolView[];
  readonly events: Told<PoolEvent>;
}

const POOL = ["organization", "pool"] as const;

/** Begins to measure. Returns what takes the pools of now over. */
export function poolMetrics(instruments: Instruments, pools: PoolSource): () => void {
  const spares = instruments.gauge("sprited_pool_spares", "Spares of a pool", [...POOL, "state"]);
  const aim = instruments.gauge("sprited_pool_aim", "Ready spares that a pool aims at", POOL);
  const waiting = instruments.gauge("sprited_pool_claims_waiting", "Claims that wait for a spare", POOL);
  const claims = instruments.counter("sprited_pool_claims_total", "Claims since the pool was made", [...POOL, "outcome"]);
  const empty = instruments.counter("sprited_pool_claims_empty_total", "Claims that found nothing ready, since the pool was made", POOL);
  const fills = instruments.counter("sprited_pool_fills_total", "Fillings of spares since the pool was made", [...POOL, "outcome"]);
  const retired = instruments.counter("sprited_pool_spares_retired_total", "Ready spares discarded, since the pool was made", [
    ...POOL,
    "reason",
  ]);
  const claimSeconds = instruments.histogram("sprited_pool_claim_seconds", "From a claim to its sprite, waiting in line included", POOL);
  const fillSeconds = instruments.histogram("sprited_pool_fill_seconds", "Making a spare ready, set-up command included", POOL);
  pools.events.add((event) => {
    const labels = { organization: event.organizationSlug, pool: event.pool };
    if (event.kind === "claimed") claimSeconds.observe(labels, event.durationMs / 1000);
    else if (event.kind === "filled") fillSeconds.observe(labels, event.durationMs / 1000);
    else for (const histogram of [claimSeconds, fillSeconds]) histogram.remove(labels);
  });
  return () => {
    for (const instrument of [spares, aim, waiting, claims, empty, fills, retired]) instrument.reset();
    for (const pool of pools.all()) {
      const labels = { organization: pool.organizationSlug, pool: pool.name };
      const { counts } = pool;
      spares.set({ ...labels, state: "ready" }, pool.ready);
      spares.set({ ...labels, state: "filling" }, pool.filling);
      aim.set(labels, pool.aim);
      waiting.set(labels, pool.waiting);
      claims.inc({ ...labels, outcome: "served" }, pool.claimed);
      claims.inc({ ...labels, outcome: "refused" }, counts.refused);
      empty.inc(labels, counts.empty);
      fills.inc({ ...labels, outcome: "ok" }, counts.filled);
      fills.inc({ ...labels, outcome: "failed" }, counts.failed);
      retired.inc({ ...labels, reason: "aged" }, counts.aged);
      retired.inc({ ...labels, reason: "rolled" }, counts.rolled);
    }
  };
}
