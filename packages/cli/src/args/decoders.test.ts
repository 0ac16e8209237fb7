import { describe, expect, test } from "vitest";
import { decodeCount, decodeDuration, decodeEnv, decodeUrlAuth, envRecord } from "./decoders.ts";
import { randomName } from "./random-name.ts";

describe("decoders", () => {
  test.each([
    ["A=1", ["A=1"]],
    ["A=1,B=2", ["A=1", "B=2"]],
    ["A=x,y,B=2", ["A=x,y", "B=2"]],
    ["A=", ["A="]],
    ["A=b=c", ["A=b=c"]],
    ["A=1,2=3", ["A=1,2=3"]],
  ])("[CLI-20] --env %s", (text, entries) => {
    expect(decodeEnv(text)).toEqual(entries);
  });

  test.each([
    ["0", 0],
    ["250ms", 250],
    ["30s", 30_000],
    ["5m", 300_000],
    ["2h", 7_200_000],
  ])("[CLI-40] the time %s", (text, ms) => {
    expect(decodeDuration(text)).toBe(ms);
  });

  test.each(["", "5", "5 m", "-1s", "1d", "1.5s", "m"])("[CLI-9] a time is not %j", (text) => {
    expect(() => decodeDuration(text)).toThrow(/such as 30s/);
  });

  test("[CLI-20] --env repeats; the last of a name holds", () => {
    expect(envRecord(decodeEnv("A=2", decodeEnv("A=1,B=x")))).toEqual({ A: "2", B: "x" });
  });

  test.each(["", "A", "=1", "1A=2", "a b=c"])("[CLI-9] --env refuses %j", (text) => {
    expect(() => decodeEnv(text)).toThrow(/NAME=value/);
  });

  test.each(["0", "-1", "1.5", "x", "", "9999999999"])("[CLI-9] a count is not %j", (text) => {
    expect(() => decodeCount(text)).toThrow(/whole number/);
  });

  test("[CLI-18] default is the older word for sprite", () => {
    expect(["public", "sprite", "default"].map(decodeUrlAuth)).toEqual(["public", "sprite", "sprite"]);
    expect(() => decodeUrlAuth("all")).toThrow(/public/);
  });
});

describe("randomName", () => {
  test.each([0, 0.25, 0.5, 0.999_999])("[CLI-14] is a valid name for random number %d", (number) => {
    expect(randomName(() => number)).toMatch(/^[a-z]+-[a-z]+-[1-9]\d\d$/);
  });
});
