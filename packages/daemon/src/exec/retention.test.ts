import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { expiredSessions } from "./retention.ts";

describe("ended sessions", () => {
  test("[EXEC-14] the newest stay within every limit, and what goes is the oldest", () => {
    const session = fc.record({ ageMs: fc.nat(100), logBytes: fc.nat(100) });
    fc.assert(
      fc.property(fc.array(session), fc.nat(20), fc.nat(100), fc.nat(1_000), (sessions, countMax, ageMsMax, bytesMax) => {
        const ended = sessions
          .sort((a, b) => a.ageMs - b.ageMs)
          .map(({ ageMs, logBytes }, index) => ({ id: String(index), endedAtMs: 1_000 - ageMs, logBytes }));
        const gone = new Set(expiredSessions(ended, { countMax, ageMsMax, bytesMax }, 1_000));
        const kept = ended.filter(({ id }) => !gone.has(id));
        expect(kept.map(({ id }) => Number(id))).toEqual(kept.map((_, index) => index));
        expect(kept.length).toBeLessThanOrEqual(countMax);
        expect(kept.every(({ endedAtMs }) => 1_000 - endedAtMs <= ageMsMax)).toBe(true);
        if (kept.length > 1) expect(kept.reduce((sum, { logBytes }) => sum + logBytes, 0)).toBeLessThanOrEqual(bytesMax);
      }),
    );
  });
});
