/** The words of `sprite proxy`. */
import { describe, expect, test } from "vitest";
import { mappingText, parseDestination, parseMapping } from "./mapping.ts";

describe("port mappings", () => {
  test.each([
    ["8080", 8080, "localhost", 8080],
    ["3000:8080", 3000, "localhost", 8080],
    ["5433:db.internal:5432", 5433, "db.internal", 5432],
    ["80:[fd00::1]:81", 80, "fd00::1", 81],
  ])("[PROXY-9] %s", (text, localPort, remoteHost, remotePort) => {
    expect(parseMapping(text)).toEqual({ localPort, remoteHost, remotePort });
  });

  test.each(["", "0", "65536", "http", "1:2:3:4", "db:5432", ":80", "80:", "-1", "1:x"])(
    "[PROXY-9] %j is refused with what to write",
    (text) => {
      expect(() => parseMapping(text)).toThrow(expect.objectContaining({ exitCode: 2, hint: expect.stringContaining("LOCAL:REMOTE") }));
    },
  );

  test("they are shown as they work", () => {
    expect(mappingText("dev", parseMapping("3000:8080"))).toBe("localhost:3000 → dev:8080");
    expect(mappingText("dev", parseMapping("1:db:2"))).toBe("localhost:1 → db:2 in dev");
  });
});

describe("destinations of -W", () => {
  test.each([
    [":22", "localhost", 22],
    ["22", "localhost", 22],
    ["box:22", "box", 22],
    ["[::1]:22", "::1", 22],
  ])("[PROXY-10] %s", (text, host, port) => {
    expect(parseDestination(text)).toEqual({ host, port });
  });

  test.each(["", "box", "box:", "box:0", "::1:22", "box:22x"])("[PROXY-10] %j is refused", (text) => {
    expect(() => parseDestination(text)).toThrow(expect.objectContaining({ exitCode: 2 }));
  });
});
