/** Going on after a lost connection: says so in one line, waits longer each time, gives up at last. */
import { setTimeout as delay } from "node:timers/promises";
import { ConnectionError } from "@sprited/protocol/client/errors";
import { ApiError, type ErrorCode } from "@sprited/protocol/errors";
import { err } from "../output/style.ts";

/** How long a server may stay away, ms. */
const GIVE_UP_MS = 5 * 60_000;
const PAUSE_MS_MIN = 250;
const PAUSE_MS_MAX = 5_000;

/** Answers of a server or sprite that is on its way back. */
const PASSING: ReadonlySet<ErrorCode> = new Set(["not_ready", "shutting_down", "vm_lost", "guest_unresponsive", "busy"]);

/** Whether the same may be tried again. */
export function isPassing(error: unknown): boolean {
  if (error instanceof ConnectionError) return error.code !== "bad_answer";
  return ApiError.is(error) && PASSING.has(error.code);
}

/** Counts what matters between two losses. */
export interface Progressing {
  /** Grows with every byte that is transferred and every answer that came. */
  readonly moved: number;
  /** Takes its line off the terminal. */
  clear(): void;
}

/**
 * Runs `attempt` until it succeeds; `attempt` is told whether it goes on after a loss. Something
 * must have got through at first: what never worked is an error at once.
 */
export async function persistently<T>(progress: Progressing, attempt: (isAgain: boolean) => Promise<T>): Promise<T> {
  let lostAtMs: number | undefined;
  let pauseMs = PAUSE_MS_MIN;
  for (let isAgain = false; ; isAgain = true) {
    const before = progress.moved;
    try {
      return await attempt(isAgain);
    } catch (error) {
      const gotThrough = progress.moved > before;
      if (!isPassing(error) || (!isAgain && !gotThrough)) throw error;
      const nowMs = performance.now();
      if (gotThrough || lostAtMs === undefined) {
        progress.clear();
        process.stderr.write(`${err("yellow", "connection lost")}, trying to go on …\n`);
        lostAtMs = nowMs;
        pauseMs = PAUSE_MS_MIN;
      }
      if (nowMs - lostAtMs > GIVE_UP_MS) throw error;
      await delay(pauseMs);
      pauseMs = Math.min(PAUSE_MS_MAX, pauseMs * 2);
    }
  }
}
