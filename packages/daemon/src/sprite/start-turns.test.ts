import { silentLogger } from "@sprited/base";
import { expect, test } from "vitest";
import { StartTurns } from "./start-turns.ts";

const never = new AbortController().signal;

/** Lets everything go on that can. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("[LIFE-32] so many at a time, in the order of asking", async () => {
  const turns = new StartTurns({ parallel: 2, logger: silentLogger });
  const begun: number[] = [];
  const taken = [0, 1, 2, 3].map(async (index) => {
    const turn = await turns.take({ signal: never });
    begun.push(index);
    return turn;
  });
  await settle();
  expect(begun).toEqual([0, 1]);
  (await taken[1])?.[Symbol.dispose]();
  await settle();
  expect(begun).toEqual([0, 1, 2]);
  for (const turn of taken.slice(0, 3)) (await turn)[Symbol.dispose]();
  await taken[3];
  expect(begun).toEqual([0, 1, 2, 3]);
});

test("[LIFE-32] who gives up leaves the queue, and takes no turn from the others", async () => {
  const turns = new StartTurns({ parallel: 1, logger: silentLogger });
  const first = await turns.take({ signal: never });
  const leaving = new AbortController();
  const left = turns.take({ signal: leaving.signal });
  const next = turns.take({ signal: never });
  leaving.abort(new Error("deleted"));
  await expect(left).rejects.toThrow("deleted");
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  (await next)[Symbol.dispose]();
  (await turns.take({ signal: never }))[Symbol.dispose]();
});
