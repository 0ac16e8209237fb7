import { describe, expect, test } from "vitest";
import { type Figure, interleave, isMet, ratioOf, samplesOf } from "./rounds.ts";
import { tableOf } from "./report.ts";

const figure = (product: number, baseline: number | undefined, target: Figure["target"]): Figure => ({
  id: "x",
  what: "x",
  unit: "ms",
  product: samplesOf([product]),
  baseline: baseline === undefined ? undefined : { what: "raw", samples: samplesOf([baseline]) },
  target,
});

describe("samples", () => {
  test("median of odd and even counts, with the ends", () => {
    expect(samplesOf([3, 1, 2])).toEqual({ median: 2, min: 1, max: 3, count: 3 });
    expect(samplesOf([4, 1, 2, 3])).toEqual({ median: 2.5, min: 1, max: 4, count: 4 });
    expect(() => samplesOf([])).toThrow("no samples");
  });

  test("both sides are run equally often in swapped order, and the warm-up is dropped", async () => {
    const order: string[] = [];
    const side = (name: string) => async (): Promise<number> => {
      order.push(name);
      return order.length;
    };
    const { a, b } = await interleave(3, side("a"), side("b"));
    expect(order.join("")).toBe("abbaabba");
    expect([a.count, b.count]).toEqual([3, 3]);
    expect(a.min).toBeGreaterThan(2);
  });
});

describe("verdict", () => {
  test("ratios, differences and values against their promise", () => {
    expect(isMet(figure(13, 10, { kind: "ratio_max", value: 1.3 }))).toBe(true);
    expect(isMet(figure(14, 10, { kind: "ratio_max", value: 1.3 }))).toBe(false);
    expect(isMet(figure(69, 100, { kind: "ratio_min", value: 0.7 }))).toBe(false);
    expect(isMet(figure(2.5, 1.6, { kind: "difference_max", value: 1 }))).toBe(true);
    expect(isMet(figure(201, undefined, { kind: "value_max", value: 200 }))).toBe(false);
    expect(isMet(figure(1, undefined, undefined))).toBeUndefined();
    expect(isMet(figure(1, undefined, { kind: "ratio_max", value: 2 }))).toBe(false);
    expect(ratioOf(figure(3, 2, undefined))).toBe(1.5);
  });

  test("the table shows figure, baseline, ratio, target and verdict", () => {
    const lines = tableOf([figure(14, 10, { kind: "ratio_max", value: 1.3 }), figure(1, undefined, undefined)]).split("\n");
    expect(lines).toHaveLength(4);
    expect(lines[2]).toContain("14.0 ms");
    expect(lines[2]).toContain("1.40");
    expect(lines[2]).toContain("≤ 1.30 ×");
    expect(lines[2]).toContain("missed");
    expect(lines[3]).toContain("reported");
  });
});
