/** The whole conformance suite as a function over a target. */
import { afterAll, beforeAll, describe } from "vitest";
import type { Target } from "../kit/target.ts";
import { acceptance } from "./acceptance.ts";
import { checkpointCalls } from "./checkpoint-calls.ts";
import { execCalls } from "./exec-calls.ts";
import { fileCalls } from "./file-calls.ts";
import { httpExecCalls } from "./http-exec-calls.ts";
import { liveness, longSilence } from "./liveness.ts";
import { portCalls } from "./port-calls.ts";
import { rawWire } from "./raw-wire.ts";
import { spriteCalls } from "./sprite-calls.ts";
import { terminalCalls } from "./terminal-calls.ts";

/** Runs every part against what `open` gives; `long` adds the parts that take minutes. */
export function conformance(open: () => Promise<Target & AsyncDisposable>, options: { long: boolean }): void {
  const target = useTarget(open);

  describe("acceptance list of the official harness", () => acceptance(target));
  describe("sprites", () => spriteCalls(target));
  describe("checkpoints", () => checkpointCalls(target));
  describe("exec", () => execCalls(target));
  describe("terminals and sessions", () => terminalCalls(target));
  describe("exec over HTTP", () => httpExecCalls(target));
  describe("connections and ports", () => portCalls(target));
  describe("files", () => fileCalls(target));
  describe("raw wire", () => rawWire(target));
  describe("liveness", () => {
    liveness(target);
    if (options.long) longSilence(target);
  });
}

/** Opens a target for the tests of the current block and closes it after them. */
export function useTarget<T extends Target & AsyncDisposable>(open: () => Promise<T>): () => T {
  let opened: T | undefined;
  beforeAll(async () => {
    opened = await open();
  }, 300_000);
  afterAll(async () => {
    await opened?.[Symbol.asyncDispose]();
  }, 120_000);
  return () => {
    if (!opened) throw new Error("the target is not open");
    return opened;
  };
}
