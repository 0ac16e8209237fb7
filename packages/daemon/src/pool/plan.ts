/**
 * What a pool should do next (docs/spec/pools.md). Pure: spares and settings in, actions out.
 *
 * Invariants: never more than `max` spares, ready and filling; never more than `FILLING_MAX`
 * filling at once; a ready spare is discarded for its age or version only while as many as the
 * pool aims at remain.
 */

/** Spares of one pool that are filled at the same time (POOL-8). */
export const FILLING_MAX = 2;
/** For how long a claim raises the aim, ms (POOL-2). */
export const DEMAND_MS = 60_000;
/** Pause after the first failed filling, ms; doubles up to the limit (POOL-9). */
const RETRY_MS = 1_000;
const RETRY_MS_MAX = 60_000;

export interface PoolSettings {
  min: number;
  max: number;
  /** Undefined: spares do not age. */
  maxAgeMs: number | undefined;
  /** Most fillings begun per minute. */
  refillPerMinute: number;
}

export interface PlannedSpare {
  id: string;
  state: "filling" | "ready";
  templateVersion: number;
  /** When it became ready; when filling began while it fills. */
  sinceMs: number;
}

export interface PoolSituation {
  settings: PoolSettings;
  spares: readonly PlannedSpare[];
  /** The template's current version; undefined: there is none, nothing can be filled. */
  version: number | undefined;
  /** Claims that wait for a spare. */
  waiting: number;
  /** Times of claims, ms. */
  claimsMs: readonly number[];
  /** When fillings were begun, ms. */
  begunMs: readonly number[];
  /** Failures since the last success, and when the last one was. */
  failures: { count: number; lastMs: number };
  nowMs: number;
}

export interface PoolPlan {
  /** Spares to begin to fill now. */
  fill: number;
  /** Ids of ready spares to discard. */
  discard: string[];
  /** When to plan again although nothing happens, ms; undefined: only when something happens. */
  nextMs: number | undefined;
}

/** How many ready spares the pool aims at (POOL-2). */
export function aimOf({ settings, waiting, claimsMs, nowMs }: PoolSituation): number {
  const recent = claimsMs.filter((atMs) => atMs > nowMs - DEMAND_MS).length;
  return Math.max(settings.min, Math.min(settings.max, settings.min + waiting + recent));
}

export function planPool(situation: PoolSituation): PoolPlan {
  const { settings, spares, version, nowMs } = situation;
  const aim = aimOf(situation);
  const ready = spares.filter(({ state }) => state === "ready");
  const filling = spares.filter(({ state }) => state === "filling");
  const fresh = ready.filter((spare) => isFresh(spare, situation));
  const stale = ready.filter((spare) => !isFresh(spare, situation)).sort(worstFirst);
  const discard = [...surplusOf(stale, fresh.length, aim), ...surplusOf([...fresh].sort(worstFirst), 0, aim)];
  const wanted = version === undefined ? 0 : aim - fresh.length - filling.filter((spare) => spare.templateVersion === version).length;
  const room = settings.max - (spares.length - discard.length);
  // A pool that is full of stale spares gives one up so that it can be replaced at all.
  if (wanted > 0 && room <= 0 && filling.length === 0 && discard.length === 0 && stale[0]) discard.push(stale[0].id);
  const fill = Math.max(0, Math.min(wanted, room + (room <= 0 ? discard.length : 0), FILLING_MAX - filling.length));
  const startMs = earliestFill(situation);
  const now = startMs <= nowMs ? Math.min(fill, rateRoom(situation)) : 0;
  return { fill: now, discard, nextMs: nextTime(situation, { isOwed: fill > now, startMs, ready }) };
}

/** Of the current version and young enough. Without a current version nothing could replace it, so all are. */
function isFresh(spare: PlannedSpare, { version, settings, nowMs }: PoolSituation): boolean {
  if (version === undefined) return true;
  if (spare.templateVersion !== version) return false;
  return settings.maxAgeMs === undefined || nowMs - spare.sinceMs < settings.maxAgeMs;
}

/** Why a ready spare that the plan discards goes; undefined: there are more than needed. */
export function retirementOf(spare: PlannedSpare, situation: PoolSituation): "rolled" | "aged" | undefined {
  if (isFresh(spare, situation)) return undefined;
  return spare.templateVersion === situation.version ? "aged" : "rolled";
}

function worstFirst(one: PlannedSpare, other: PlannedSpare): number {
  return one.templateVersion - other.templateVersion || one.sinceMs - other.sinceMs;
}

/** Those of `spares` that are not needed to have `aim` ready beside `others`. */
function surplusOf(spares: readonly PlannedSpare[], others: number, aim: number): string[] {
  const surplus = Math.max(0, Math.min(spares.length, others + spares.length - aim));
  return spares.slice(0, surplus).map(({ id }) => id);
}

/** When filling may begin again after failures, ms (POOL-9). */
function earliestFill({ failures }: PoolSituation): number {
  if (failures.count === 0) return 0;
  return failures.lastMs + Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** Math.min(failures.count - 1, 16));
}

function rateRoom({ begunMs, settings, nowMs }: PoolSituation): number {
  return Math.max(0, settings.refillPerMinute - begunMs.filter((atMs) => atMs > nowMs - 60_000).length);
}

function nextTime(
  situation: PoolSituation,
  { isOwed, startMs, ready }: { isOwed: boolean; startMs: number; ready: readonly PlannedSpare[] },
): number | undefined {
  const { settings, begunMs, claimsMs, nowMs } = situation;
  const times: number[] = [];
  if (isOwed && startMs > nowMs) times.push(startMs);
  const oldest = begunMs.filter((atMs) => atMs > nowMs - 60_000).sort((a, b) => a - b)[0];
  if (isOwed && rateRoom(situation) === 0 && oldest !== undefined) times.push(oldest + 60_000);
  for (const atMs of claimsMs) if (atMs + DEMAND_MS > nowMs) times.push(atMs + DEMAND_MS);
  for (const { sinceMs } of ready) {
    const staleMs = sinceMs + (settings.maxAgeMs ?? Infinity);
    if (staleMs > nowMs && staleMs < Infinity) times.push(staleMs);
  }
  return times.length === 0 ? undefined : Math.min(...times);
}
