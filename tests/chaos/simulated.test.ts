import { setTimeout as sleep } from "node:timers/promises";
import { ignore } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type History, liveWorld } from "./world.ts";

const SEED = Number(process.env["SPRITED_TEST_SEED"] ?? 20_26);
const ROUNDS = Number(process.env["SPRITED_TEST_ROUNDS"] ?? 2_000);
const WORLD_ROUNDS = 20;
/** One lives through its rounds within seconds. */
const WORLD_TIMEOUT_MS = 90_000;

/** An error's message and those of its causes: the first line tells it all. */
function reasons(error: unknown): string {
  return error instanceof Error ? [error.message, ...(error.cause ? [reasons(error.cause)] : [])].join(" < ") : String(error);
}

/** A world that stands still fails with its history. */
async function withDeadline(world: Promise<void>): Promise<void> {
  const abort = new AbortController();
  const late = sleep(WORLD_TIMEOUT_MS, undefined, { signal: abort.signal }).then(() => {
    throw new Error(`stood still: not over after ${WORLD_TIMEOUT_MS} ms`);
  });
  late.catch(ignore("the world ended first"));
  try {
    await Promise.race([world, late]);
  } finally {
    abort.abort();
  }
}

describe("faults at any effect of any operation", () => {
  const strays: unknown[] = [];
  const heard = (error: unknown): void => {
    // A dead daemon's own complaints, and those of its database, which is closed.
    const { name, code } = error as NodeJS.ErrnoException;
    if (name !== "DeadError" && code !== "ERR_INVALID_STATE") strays.push(error);
  };
  let others: NodeJS.UnhandledRejectionListener[] = [];
  beforeAll(() => {
    others = process.listeners("unhandledRejection");
    process.removeAllListeners("unhandledRejection");
    process.on("unhandledRejection", heard);
  });
  afterAll(() => {
    process.off("unhandledRejection", heard);
    for (const other of others) process.on("unhandledRejection", other);
  });

  test.each(Array.from({ length: Math.ceil(ROUNDS / WORLD_ROUNDS) }, (_, index) => SEED + index))("seed %i", async (seed) => {
    const history: History = { seed, lines: [] };
    try {
      await withDeadline(liveWorld(WORLD_ROUNDS, history));
      expect(strays).toEqual([]);
    } catch (error) {
      throw new Error(
        `seed ${seed}: ${reasons(error)} (SPRITED_TEST_SEED=${seed} SPRITED_TEST_ROUNDS=${WORLD_ROUNDS} repeats it)\n${history.lines.join("\n")}`,
        { cause: error },
      );
    } finally {
      strays.length = 0;
    }
  });
});
