import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseTicks, type TscReading, tscKhz } from "./tsc.ts";

describe("a reading of the counter", () => {
  test("is both halves of the register dump", () => {
    expect(parseTicks("EAX=00000010 EBX=00000000 ECX=00000000 EDX=00000002\r\nESI=")).toBe(0x2_0000_0010n);
    expect(parseTicks("RAX=0000000089abcdef RBX=0000000000000000 RCX=0 RDX=0000000000000001")).toBe(0x1_89ab_cdefn);
  });

  test.each(["", "EAX=zz EDX=00000001", "EAX=00000001", "EAX=00000000 EBX=0 EDX=00060fb1"])("is not there in %j", (dump) => {
    expect(parseTicks(dump)).toBeUndefined();
  });
});

describe("the counter's speed", () => {
  /** Readings of a counter of `khz`, each late by one of `lagsMs`. */
  function group(khz: number, fromMs: number, lagsMs: readonly number[]): TscReading[] {
    return lagsMs.map((lagMs, index) => {
      const atMs = fromMs + index * 5;
      return { atMs, ticks: BigInt(Math.round((atMs - lagMs) * khz)) };
    });
  }

  test("is found as long as one reading of each group was prompt", () => {
    const lag = fc.double({ min: 0.1, max: 40, noNaN: true });
    const lags = fc.tuple(fc.array(lag, { minLength: 3, maxLength: 12 }), fc.nat()).map(([all, at]) => all.with(at % all.length, 0.1));
    fc.assert(
      fc.property(fc.integer({ min: 800_000, max: 5_000_000 }), lags, lags, (khz, first, last) => {
        const found = tscKhz(group(khz, 1_000, first), group(khz, 2_500, last))!;
        // A rough first choice may prefer a neighbour whose lag is within what the distance hides.
        expect(Math.abs(found - khz) / khz).toBeLessThan(0.001);
      }),
    );
  });

  test("is unknown without readings, without time between them, and of a counter that stands", () => {
    const some = group(2_000_000, 1_000, [0.1, 0.2]);
    expect(tscKhz([], some)).toBeUndefined();
    expect(tscKhz(some, [])).toBeUndefined();
    expect(tscKhz([some[1]!], [some[0]!])).toBeUndefined();
    expect(
      tscKhz(
        some,
        some.map((reading) => ({ ...reading, atMs: reading.atMs + 1_500 })).map(({ atMs }) => ({ atMs, ticks: some[0]!.ticks })),
      ),
    ).toBeUndefined();
  });
});
