import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ENDPOINTS } from "./endpoints.ts";
import { durationMs, queryFromUrl } from "./query.ts";
import { queryToText } from "./query-text.ts";
import { validateQuery } from "./validate.ts";

const exec = ENDPOINTS.execSocket.query;
const parse = (text: string) => validateQuery(exec, queryFromUrl(exec, new URLSearchParams(text)));

describe("durations", () => {
  it.each([
    ["5s", 5000],
    ["1m30s", 90_000],
    ["250ms", 250],
    ["0s", 0],
    ["0", 0],
    ["10", 10_000],
    ["1.5h", 5_400_000],
    ["1h2m3s4ms", 3_723_004],
  ])("%s is %d ms", (text, ms) => {
    expect(durationMs(text)).toBe(ms);
  });

  it.each(["", "s", "-5s", "5 s", "5x", "1e9", "s5", "NaN", "99999999999h", "5s5"])("%j is none", (text) => {
    expect(durationMs(text)).toBeUndefined();
  });
});

describe("queries", () => {
  it("decodes as forms do and keeps the order of repeated parameters", () => {
    expect(parse("cmd=sh&cmd=-c&cmd=cat%3B+exit+42&path=sh&stdin=true&env=A%3D1&env=B%3D+")).toMatchObject({
      cmd: ["sh", "-c", "cat; exit 42"],
      path: "sh",
      stdin: true,
      env: ["A=1", "B= "],
    });
  });

  it("[API-10] ignores parameters that it does not know", () => {
    expect(parse("cmd=a&telemetry=1")).toEqual({ cmd: ["a"] });
  });

  it.each([
    ["rows=x", "rows"],
    ["rows=70000", "rows"],
    ["tty=maybe", "tty"],
    ["max_run_after_disconnect=soon", "max_run_after_disconnect"],
  ])("refuses %s and names the parameter", (text, field) => {
    expect(() => parse(text)).toThrow(expect.objectContaining({ code: "query_invalid", details: { field } }));
  });

  it("reads back what was written, whatever the text", () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: "grapheme" }), { minLength: 1 }), fc.boolean(), (cmd, stdin) => {
        expect(parse(queryToText({ cmd, stdin, dir: undefined }))).toEqual({ cmd, stdin });
      }),
    );
  });
});
