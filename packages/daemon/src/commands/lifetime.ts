import { readFileSync } from "node:fs";
import { ignore, sleep } from "@sprited/base";

/**
 * When a foreground command ends: a signal, or the end of the program that started it (which
 * a kill -9 of that program cannot announce in any other way).
 */

/** How often the starter is looked for, `ms`. */
const STARTER_POLL_MS = 1_000;

/** Why the command is asked to end. */
export interface StopReason {
  /** For people. */
  why: string;
  /** Exit code that says so; 0 for Ctrl-C and orderly stops of a foreground daemon. */
  exitCode: number;
}

export interface Lifetime extends Disposable {
  /** Aborts, with a `StopReason`, once the command shall end. */
  readonly signal: AbortSignal;
  /** Resolves once the command shall end. */
  readonly stopped: Promise<StopReason>;
}

/**
 * Watches signals, the channel to a starter, and `starterPid`. A second Ctrl-C ends the process
 * at once.
 */
export function openLifetime(options: { starterPid?: number | undefined } = {}): Lifetime {
  const controller = new AbortController();
  const { promise, resolve } = Promise.withResolvers<StopReason>();
  const stop = (why: string, exitCode: number): void => {
    if (controller.signal.aborted) {
      if (why === "SIGINT") process.exit(130);
      return;
    }
    const reason: StopReason = { why, exitCode };
    controller.abort(reason);
    resolve(reason);
  };
  const handlers = (["SIGINT", "SIGTERM", "SIGHUP"] as const).map((name) => {
    const handler = (): void => stop(name, 0);
    process.on(name, handler);
    return () => process.off(name, handler);
  });
  const onDisconnect = (): void => stop("the program that started it has ended", 0);
  process.once("disconnect", onDisconnect);
  process.channel?.unref();
  const watching = new AbortController();
  if (options.starterPid !== undefined) {
    void watchProcess(options.starterPid, watching.signal).then(() => onDisconnect(), ignore("no longer watched"));
  }
  return {
    signal: controller.signal,
    stopped: promise,
    [Symbol.dispose]: () => {
      watching.abort();
      process.off("disconnect", onDisconnect);
      for (const undo of handlers) undo();
    },
  };
}

/** Resolves when the process that has `pid` now is gone. */
async function watchProcess(pid: number, signal: AbortSignal): Promise<void> {
  const started = startTime(pid);
  while (started !== undefined && startTime(pid) === started) await sleep(STARTER_POLL_MS, { signal });
}

/** When a process began, in ticks since boot: with its id, unique. undefined when it is gone. */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // A zombie has ended; only its parent has not asked yet.
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    // Gone, which is the answer.
    return undefined;
  }
}
