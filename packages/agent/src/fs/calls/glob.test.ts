import path from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { matcher } from "./glob.ts";

test.each([
  ["*.ts", "a.ts", true],
  ["*.ts", "deep/down/a.ts", true],
  ["*.ts", "a.tsx", false],
  ["src/*.ts", "src/a.ts", true],
  ["src/*.ts", "src/x/a.ts", false],
  ["src/**/*.ts", "src/x/y/a.ts", true],
  ["src/**/*.ts", "src/a.ts", true],
  ["**", "any/thing", true],
  ["a?c", "abc", true],
  ["a?c", "ac", false],
  ["[a-c]x", "bx", true],
  ["[!a-c]x", "bx", false],
  ["*.{js,ts}", "a.ts", true],
  ["{a,{b,c}}.x", "c.x", true],
  ["*", ".hidden", true],
  ["a.b", "axb", false],
])("[FS-7] %s and %s: %s", (pattern, name, fits) => {
  expect(matcher(pattern)(name)).toBe(fits);
});

test("[FS-7] agrees with Node's own where both know the pattern", () => {
  const letters = fc.array(fc.constantFrom("a", "b", "*", "?"), { maxLength: 8 }).map((all) => all.join("").replaceAll("**", "*"));
  fc.assert(
    fc.property(letters, fc.stringMatching(/^[ab]{1,8}$/), (pattern, name) => {
      expect(matcher(pattern)(name)).toBe(pattern === "" ? false : path.matchesGlob(name, pattern));
    }),
  );
});

test("[FS-7] a pattern made to be slow is not", () => {
  expect(matcher(`${"*a".repeat(400)}b`)("a".repeat(5000))).toBe(false);
});
