import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type History, liveWorld } from "./world.ts";

const SEED = Number(process.env["SPRITED_TEST_SEED"] ?? 20_26);
const ROUNDS = Number(process.env["SPRITED_TEST_ROUNDS"] ?? 2_000);
const WORLD_ROUNDS = 20;

/** An error's message and those of its causes: the first line tells it all. */
function reasons(error: unknown): string {
  return error instanceof Error ? [error.message, ...(error.cause ? [reasons(error.cause)] : [])].join(" < ") : String(error);
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
      await liveWorld(WORLD_ROUNDS, history);
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
