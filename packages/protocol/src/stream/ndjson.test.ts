import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeNdjsonLine, NdjsonDecoder, NdjsonError } from "./ndjson.ts";

/** Cuts `bytes` into pieces at `cuts`. */
function pieces(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const at = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  return [...at, bytes.length].map((end, index) => bytes.subarray(index === 0 ? 0 : at[index - 1], end));
}

describe("NdjsonDecoder", () => {
  it("gives the same values however the bytes are cut, with or without the last line end", () => {
    const value = fc.jsonValue({ stringUnit: "grapheme" });
    fc.assert(
      fc.property(fc.array(value), fc.array(fc.nat()), fc.boolean(), (values, cuts, cutEnd) => {
        const text = values.map(encodeNdjsonLine).join("\n");
        const bytes = new TextEncoder().encode(cutEnd ? text.replace(/\n$/, "") : text);
        const decoder = new NdjsonDecoder();
        const got = pieces(bytes, cuts).flatMap((piece) => decoder.push(piece));
        expect([...got, ...decoder.end()]).toEqual(values.map((v) => JSON.parse(JSON.stringify(v))));
      }),
    );
  });

  it("refuses what is not JSON, and lines without end", () => {
    expect(() => new NdjsonDecoder().push(new TextEncoder().encode("{\n"))).toThrow(NdjsonError);
    const decoder = new NdjsonDecoder({ lineCharactersMax: 10 });
    expect(() => decoder.push(new Uint8Array(11).fill(97))).toThrow(NdjsonError);
  });
});
