/** Canonical forms and ranges. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatIpv4, formatRange, rangeContains, rangesOverlap, tryParseIpv4, tryParseMac, tryParseRange } from "./address.ts";

describe("addresses", () => {
  it("reads back every address it writes", () => {
    fc.assert(fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), (value) => tryParseIpv4(formatIpv4(value)) === value));
  });

  it.each(["", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.4 ", "1.2.3.4\n", "::1", "1.2.3.4;drop", "0x1.2.3.4", "-1.2.3.4"])(
    "refuses %j",
    (text) => {
      expect(tryParseIpv4(text)).toBeUndefined();
    },
  );

  it("clears the bits below the prefix and takes a single address as a range", () => {
    expect(formatRange(tryParseRange("10.1.2.3/8") ?? expect.fail())).toBe("10.0.0.0/8");
    expect(formatRange(tryParseRange("255.255.255.255") ?? expect.fail())).toBe("255.255.255.255/32");
    expect(formatRange(tryParseRange("1.2.3.4/0") ?? expect.fail())).toBe("0.0.0.0/0");
    for (const text of ["10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/", "10.0.0/8", "10.0.0.0/8 }", "/8"])
      expect(tryParseRange(text), text).toBeUndefined();
  });

  it("two ranges overlap exactly when one holds the other's first address", () => {
    const range = fc.tuple(fc.integer({ min: 0, max: 2 ** 32 - 1 }), fc.integer({ min: 0, max: 32 })).map(([value, prefix]) => {
      return tryParseRange(`${formatIpv4(value)}/${prefix}`) ?? expect.fail();
    });
    fc.assert(
      fc.property(range, range, (a, b) => {
        const first = (value: number): { first: number; prefixLength: number } => ({ first: value, prefixLength: 32 });
        return rangesOverlap(a, b) === (rangeContains(a, first(b.first)) || rangeContains(b, first(a.first)));
      }),
    );
  });

  it("reads MAC addresses of single machines only", () => {
    expect(tryParseMac("52:54:00:00:7F:02")).toBe("52:54:00:00:7f:02");
    for (const text of ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "52:54:00:00:7f", "52-54-00-00-7f-02", "52:54:00:00:7f:0g"]) {
      expect(tryParseMac(text), text).toBeUndefined();
    }
  });
});
