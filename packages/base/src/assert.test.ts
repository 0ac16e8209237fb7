import { expect, it } from "vitest";
import { assert, AssertionError, unreachable } from "./assert.ts";
import { silentLogger } from "./log.ts";

it("assert throws only when the condition does not hold", () => {
  expect(() => assert(1, "one is true")).not.toThrow();
  for (const wrong of [0, "", undefined, false]) expect(() => assert(wrong, "must hold")).toThrow(new AssertionError("must hold"));
});

it("unreachable shows the case nobody handled", () => {
  expect(() => unreachable({ kind: "new" } as never, "state")).toThrow('state: unhandled {"kind":"new"}');
});

it("the silent logger has silent children", () => {
  expect(silentLogger.child({ a: 1 })).toBe(silentLogger);
  expect(() => silentLogger.error({ err: new Error("x") }, "dropped")).not.toThrow();
});
