/** When to try again: pauses that double, with chance in them so that many clients do not come at once. Pure but for chance. */

/** Pause before the second attempt, ms; the first one follows at once. */
const FIRST_MS = 100;
/** Longest pause, ms. */
const LONGEST_MS = 5000;

/** Pause before attempt number `attempt` (from 0), ms. `chance`: 0 to 1. */
export function pauseBefore(attempt: number, chance: number): number {
  if (attempt === 0) return 0;
  const whole = Math.min(FIRST_MS * 2 ** Math.min(attempt - 1, 10), LONGEST_MS);
  return Math.round(whole * (0.5 + chance / 2));
}
