import { describe, expect, test } from "vitest";
import { nearestName, splitCommandLine } from "./command-line.ts";

describe("splitCommandLine", () => {
  test("[CLI-1] global flags before the command are taken in every spelling", () => {
    for (const argv of [
      ["-s", "dev", "-o", "team", "exec", "-s", "x"],
      ["--sprite", "dev", "--org=team", "exec", "-s", "x"],
      ["-sdev", "-o=team", "exec", "-s", "x"],
    ]) {
      expect(splitCommandLine(argv)).toEqual({ flags: { sprite: "dev", org: "team" }, command: "exec", rest: ["-s", "x"], unknown: [] });
    }
  });

  test("[CLI-9] other flags before the command, and flags without value, are reported", () => {
    expect(splitCommandLine(["--help"])).toEqual({ flags: {}, command: undefined, rest: [], unknown: ["--help"] });
    expect(splitCommandLine(["--verbose", "list"]).unknown).toEqual(["--verbose"]);
    expect(splitCommandLine(["-s"]).unknown).toEqual(["-s"]);
  });

  test("[CLI-20] what follows the command is not touched", () => {
    expect(splitCommandLine(["exec", "--", "-s", "", "--org"]).rest).toEqual(["--", "-s", "", "--org"]);
  });
});

describe("nearestName", () => {
  test.each([
    ["lst", "list"],
    ["destory", "destroy"],
    ["consol", "console"],
    ["zzzzzz", undefined],
  ])("[CLI-9] %s means %s", (word, name) => {
    expect(nearestName(word, ["list", "destroy", "console", "c", "ls"])).toBe(name);
  });
});
