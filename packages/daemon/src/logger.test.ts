import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openLogger } from "./logger.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "log-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const lines = (): Record<string, unknown>[] =>
  readFileSync(path.join(directory, "sprited.log"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);

it("writes one JSON line per message with time, level, fields of parents and the chain of causes", () => {
  const logger = openLogger({ level: "info", directory });
  const err = new Error("outer", { cause: new Error("inner") });
  logger.child({ spriteId: "s1" }).info({ event: "wake", err }, "woke");
  logger.debug({}, "not written");
  expect(lines()).toHaveLength(1);
  expect(lines()[0]).toMatchObject({ level: "info", spriteId: "s1", event: "wake", msg: "woke" });
  expect(String(lines()[0]?.["time"])).toMatch(/^\d{4}-\d\d-\d\dT/);
  expect(JSON.stringify(lines()[0])).toContain("inner");
});

it("never writes secrets, at the top or one level down", () => {
  const logger = openLogger({ level: "info", directory });
  logger.info({ token: "t0psecret", request: { authorization: "Bearer t0psecret" }, key: "t0psecret" }, "call");
  expect(readFileSync(path.join(directory, "sprited.log"), "utf8")).not.toContain("t0psecret");
});

it("shows warnings and errors to people, also those of children", () => {
  const shown: string[] = [];
  const logger = openLogger({ level: "error", directory, onWarning: (text) => shown.push(text) });
  logger.info({}, "quiet");
  logger.warn({}, "careful");
  logger.child({}).error({}, "broken");
  expect(shown).toEqual(["careful", "broken"]);
});

it("is for its owner only and never grows without bound", () => {
  const file = path.join(directory, "sprited.log");
  writeFileSync(file, "");
  truncateSync(file, 17 * 1024 * 1024);
  const logger = openLogger({ level: "info", directory });
  logger.info({}, "first");
  logger.info({}, "second");
  expect(statSync(file).size).toBeLessThan(1000);
  expect(statSync(`${file}.1`).size).toBeGreaterThan(17 * 1024 * 1024 - 1);
  expect(lines().map((line) => line["msg"])).toEqual(["first", "second"]);
});
