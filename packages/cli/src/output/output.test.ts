import { ConnectionError } from "@sprited/protocol/client/errors";
import { ApiError } from "@sprited/protocol/errors";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { age, seconds } from "./age.ts";
import { CliError } from "./cli-error.ts";
import { describeError } from "./report.ts";
import { type Column, renderTable } from "./table.ts";
import { printable, textWidth } from "./text-width.ts";

const columns: Column<string[]>[] = ["A", "LONG", "C"].map((title, index) => ({ title, cell: (row) => row[index] ?? "" }));

describe("table", () => {
  test("[CLI-12] columns are aligned by what is seen, not by characters", () => {
    expect(
      renderTable(columns, [
        ["x", "漢字", "1"],
        ["long", "é", "2"],
      ]),
    ).toEqual(["A     LONG  C", "x     漢字  1", "long  é     2"]);
  });

  test("[CLI-12] a column without content is left out; titles alone when there are no rows", () => {
    expect(renderTable(columns, [["x", "", "1"]])).toEqual(["A  C", "x  1"]);
    expect(renderTable(columns, [])).toEqual(["A  LONG  C"]);
  });

  test("[CLI-12] with a width, the last column is shortened", () => {
    expect(renderTable(columns, [["x", "y", "abcdefgh"]], { width: 13 })).toEqual(["A  LONG  C", "x  y     abc…"]);
  });

  test("[CLI-12] every cell of a column begins at the same place, whatever the text", () => {
    const text = fc.string({ unit: "grapheme", maxLength: 12 });
    fc.assert(
      fc.property(fc.array(fc.tuple(text, fc.constant("|")), { minLength: 1, maxLength: 6 }), (rows) => {
        const lines = renderTable<string[]>(
          [
            { title: "T", cell: (row) => row[0] ?? "" },
            { title: "|", cell: (row) => row[1] ?? "" },
          ],
          rows,
        );
        const starts = lines.map((line) => textWidth(line.slice(0, line.lastIndexOf("|"))));
        expect(new Set(starts).size).toBe(1);
      }),
    );
  });
});

describe("texts", () => {
  test("[CLI-11] printable leaves nothing that steers a terminal", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        expect(printable(text)).not.toMatch(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/u);
      }),
    );
  });

  test.each([
    ["2026-01-01T00:00:00Z", "0s"],
    ["2025-12-31T23:59:01Z", "59s"],
    ["2025-12-31T22:00:00Z", "2h"],
    ["2025-12-01T00:00:00Z", "31d"],
    ["garbage", ""],
    [undefined, ""],
  ])("[CLI-12] age of %s is %s", (time, text) => {
    expect(age(time, Date.parse("2026-01-01T00:00:00Z"))).toBe(text);
  });

  test("[CLI-14] durations have two digits while they are short", () => {
    expect([seconds(42), seconds(9994), seconds(12_345)]).toEqual(["0.04 s", "9.99 s", "12.3 s"]);
  });
});

describe("describeError", () => {
  test("[CLI-8] an answer of the server: its message, and a hint in commands", () => {
    expect(describeError(new ApiError("sprite_name_taken", "the name dev is taken"))).toEqual({
      message: "The name dev is taken.",
      hint: "Choose another name, or `sprite destroy` the one that has it.",
      code: "sprite_name_taken",
      exitCode: 1,
    });
  });

  test("[CLI-8] a network error: why, found deep in its causes, and what to do", () => {
    const refused = Object.assign(new Error("connect ECONNREFUSED 127.0.0.1:1"), { code: "ECONNREFUSED" });
    const both = new AggregateError([refused]);
    for (const cause of [refused, both, new Error("fetch failed", { cause: both })]) {
      expect(describeError(new ConnectionError("unreachable", "cannot reach http://x", { cause }))).toMatchObject({
        message: "Cannot reach http://x: nothing listens there.",
        code: "connection_unreachable",
      });
    }
  });

  test("[CLI-8] an error of ours keeps its exit code; anything else is called a fault", () => {
    expect(describeError(new CliError("No.", { exitCode: 2, code: "usage" }))).toEqual({
      message: "No.",
      hint: undefined,
      code: "usage",
      exitCode: 2,
    });
    expect(describeError(new TypeError("x is not y"))).toMatchObject({ message: "unexpected TypeError: x is not y", exitCode: 1 });
  });
});
