import { setTimeout as timerSleep } from "node:timers/promises";

/**
 * Time: clocks, waits with deadlines and signals, timers that are given back. Invariant: the only
 * file that touches timers, so that nothing waits without an end.
 */

/** Time as the rest of the program sees it; tests bring their own. */
export interface Clock {
  /** Wall time, milliseconds since the epoch. */
  nowMs(): number;
  /** Monotonic time, milliseconds, for durations only. */
  monotonicMs(): number;
  /** Resolves after `ms`, rejects with the signal's reason when aborted. */
  sleep(ms: number, options?: { signal?: AbortSignal | undefined }): Promise<void>;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: (ms, options) => sleep(ms, options),
};

/**
 * Resolves after `ms`; rejects with the signal's own reason when it aborts first. With
 * `ref: false` the wait does not keep the program running.
 */
export async function sleep(ms: number, options: { signal?: AbortSignal | undefined; ref?: boolean } = {}): Promise<void> {
  options.signal?.throwIfAborted();
  try {
    await timerSleep(ms, undefined, { ref: options.ref ?? true, ...(options.signal ? { signal: options.signal } : {}) });
  } catch (error) {
    options.signal?.throwIfAborted();
    throw error;
  }
}

/** A wait that ran out of time. `what` names what was waited for. */
export class DeadlineError extends Error {
  override readonly name = "DeadlineError";
  readonly what: string;
  readonly timeoutMs: number;
  constructor(what: string, timeoutMs: number) {
    super(`${what}: nothing within ${timeoutMs} ms`);
    this.what = what;
    this.timeoutMs = timeoutMs;
  }
}

/**
 * Runs `work` with a signal that aborts after `timeoutMs` (or with the caller's signal).
 * Throws `DeadlineError` on time-out even when `work` ignores its signal.
 */
export async function withDeadline<T>(
  what: string,
  options: { timeoutMs: number; signal?: AbortSignal | undefined },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  options.signal?.throwIfAborted();
  const controller = new AbortController();
  let cleanup = (): void => {};
  const stopped = new Promise<never>((_, reject) => {
    const stop = (reason: unknown): void => {
      controller.abort(reason);
      reject(reason);
    };
    const timer = setTimeout(() => stop(new DeadlineError(what, options.timeoutMs)), options.timeoutMs);
    const onAbort = (): void => stop(options.signal?.reason);
    options.signal?.addEventListener("abort", onAbort, { once: true });
    cleanup = () => {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", onAbort);
    };
  });
  try {
    return await Promise.race([work(controller.signal), stopped]);
  } finally {
    cleanup();
  }
}

/**
 * Polls `probe` until it returns something other than `undefined`/`false`, every `everyMs`.
 * Waits for a level, never for an edge. Throws `DeadlineError` when `timeoutMs` has passed.
 */
export async function waitFor<T>(
  what: string,
  options: { timeoutMs: number; everyMs?: number; signal?: AbortSignal | undefined },
  probe: () => Promise<T | undefined | false> | T | undefined | false,
): Promise<T> {
  const deadline = performance.now() + options.timeoutMs;
  for (;;) {
    options.signal?.throwIfAborted();
    const value = await probe();
    if (value !== undefined && value !== false) return value;
    if (performance.now() >= deadline) throw new DeadlineError(what, options.timeoutMs);
    await sleep(options.everyMs ?? 10, { signal: options.signal });
  }
}

/** Runs `work` once after `ms` unless the result is disposed before. Does not keep the process alive. */
export function after(ms: number, work: () => void): Disposable {
  const timer = setTimeout(work, ms);
  timer.unref();
  return { [Symbol.dispose]: () => clearTimeout(timer) };
}

/** Runs `work` every `ms` until the result is disposed. Does not keep the process alive. */
export function every(ms: number, work: () => void): Disposable {
  const timer = setInterval(work, ms);
  timer.unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
