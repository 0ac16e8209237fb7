/** Which ended sessions of a sprite are kept (EXEC-14). Pure. */
import type { EndedSessionSize } from "../store/index.ts";

export interface RetentionLimits {
  /** Ended sessions kept of each sprite. */
  countMax: number;
  /** How long one is kept, ms. */
  ageMsMax: number;
  /** Their logs together, of each sprite, bytes. */
  bytesMax: number;
}

/** Ids to forget of `ended`, which is ordered by end, the last first. The very last one is kept whatever its size. */
export function expiredSessions(ended: readonly EndedSessionSize[], limits: RetentionLimits, nowMs: number): string[] {
  let bytes = 0;
  return ended
    .filter((session, index) => {
      bytes += session.logBytes;
      return index >= limits.countMax || nowMs - session.endedAtMs > limits.ageMsMax || (index > 0 && bytes > limits.bytesMax);
    })
    .map(({ id }) => id);
}
