import { describe, expect, test } from "vitest";
import { poolWords } from "./pool-words.ts";

const NOW_MS = Date.parse("2026-01-01T00:10:00Z");
const METRICS = {
  claims_served: 1204,
  claims_empty: 17,
  claims_refused: 9,
  claims_waiting: 2,
  claim_ms: { p50: 33.4, p99: 1310 },
  fills: 1210,
  fills_failed: 3,
  fill_seconds: { p50: 12.34, last: 1.5 },
  last_failure: { code: "setup_failed", at: "2026-01-01T00:06:00Z" },
  spares_aged: 1,
  spares_rolled: 4,
};

describe("a pool in words", () => {
  test("[POOL-19] says what was counted and how long it took, within 80 columns", () => {
    const lines = poolWords({ metrics: METRICS }, NOW_MS);
    expect(lines).toEqual([
      "claims    1204 served, 17 found none, 9 refused, 2 waiting",
      "          half answered within 33 ms, 99 % within 1.31 s",
      "spares    1210 set up, 3 failed (setup_failed 4m ago)",
      "          half ready after 12.3 s, the last one after 1.50 s",
      "replaced  1 for their age, 4 for another version",
    ]);
    const longest = Object.fromEntries(
      Object.entries(METRICS).map(([name, value]) => [name, typeof value === "number" ? 9_999_999 : value]),
    );
    expect(Math.max(...poolWords({ metrics: longest }, NOW_MS).map((line) => line.length))).toBeLessThanOrEqual(80);
  });

  test("[POOL-19] leaves out what has not happened yet, and says nothing for a server that tells nothing", () => {
    const fresh = { claim_ms: { p50: null, p99: null }, fill_seconds: { p50: null, last: null }, last_failure: null };
    expect(poolWords({ metrics: fresh }, NOW_MS)).toEqual([
      "claims    0 served, 0 found none, 0 refused, 0 waiting",
      "spares    0 set up",
      "replaced  0 for their age, 0 for another version",
    ]);
    for (const raw of [{}, undefined, { metrics: "x" }]) expect(poolWords(raw, NOW_MS)).toEqual([]);
  });
});
