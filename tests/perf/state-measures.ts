/** Measures of state that comes back, by their ids: sleep, save points, forks, fleets. */
import type { Bench } from "./bench.ts";
import { measureDiskCheckpoint, measureFork, measureMemoryCheckpoint, measureRestore } from "./copy-measures.ts";
import { measureAtOnce, measureClaim, measureSleepers } from "./fleet-measures.ts";
import type { Figure } from "./rounds.ts";
import { measureFirstHibernation, measureHibernation, measurePaused } from "./sleep-measures.ts";

export const STATE_MEASURES: Record<string, (bench: Bench) => Promise<Figure[]>> = {
  hibernation: measureHibernation,
  "first-hibernation": measureFirstHibernation,
  paused: measurePaused,
  "disk-checkpoint": measureDiskCheckpoint,
  "memory-checkpoint": measureMemoryCheckpoint,
  restore: measureRestore,
  fork: measureFork,
  claim: measureClaim,
  "at-once": measureAtOnce,
  sleepers: measureSleepers,
};
