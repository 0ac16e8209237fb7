/**
 * Decides whether one more machine may run on this host (LIFE-27). What may run at once is
 * computed; who does not fit waits for a bounded time while idle sprites are put to sleep, and is
 * then refused with the reason.
 *
 * Invariant: what counts is read from the sprites' states and from the places that are given out
 * and not used yet; nothing else is remembered, so nothing can leak.
 */
import { readFileSync } from "node:fs";
import { DeadlineError, ignore, type Logger, sleep, withDeadline } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";

/** Host memory a VMM uses beside its guest's RAM, MiB. */
const OVERHEAD_MIB = 96;
/** RAM that a machine touches soon after its start, MiB: what must be free for it at least. */
const FIRST_TOUCH_MIB = 128;
const LOOK_EVERY_MS = 100;

export interface AdmissionSettings {
  /** Memory that all machines, running and paused, may have together, MiB. */
  runningMemoryMib: number;
  /** Memory that stays free on the host, MiB. */
  reserveMib: number;
  /** Longest wait for room, ms. */
  waitMs: number;
}

export interface AdmissionOptions {
  settings: AdmissionSettings;
  /** RAM of each machine that exists, MiB. */
  machinesMib(): number[];
  /** Puts one idle sprite to sleep, if there is one; false when there is none. */
  makeRoom(): Promise<boolean>;
  /** Memory that the host could give now, MiB. */
  availableMib?: () => number;
  logger: Logger;
}

/** Why `mib` more do not fit, for people; undefined when they do. Pure. */
export function shortage(
  mib: number,
  facts: { machinesMib: readonly number[]; pendingMib: readonly number[]; availableMib: number; settings: AdmissionSettings },
): string | undefined {
  const { settings, availableMib } = facts;
  const all = [...facts.machinesMib, ...facts.pendingMib].reduce((sum, each) => sum + each + OVERHEAD_MIB, 0);
  if (all + mib + OVERHEAD_MIB > settings.runningMemoryMib)
    return `the machines that run have ${all} MiB, all together may have ${settings.runningMemoryMib} MiB`;
  const soon = (facts.pendingMib.length + 1) * FIRST_TOUCH_MIB;
  if (availableMib - soon < settings.reserveMib)
    return `the host has ${availableMib} MiB of memory left and keeps ${settings.reserveMib} MiB free`;
  return undefined;
}

export class Admission {
  readonly #options: AdmissionOptions;
  readonly #pending = new Set<{ mib: number }>();
  #queue: Promise<unknown> = Promise.resolve();

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /**
   * A place for a machine of `mib`, in the order of asking; to be released when the machine shows in
   * `machinesMib` or was given up. Throws `host_memory_full`.
   */
  async acquire(mib: number, options: { signal: AbortSignal }): Promise<Disposable> {
    const deadline = performance.now() + this.#options.settings.waitMs;
    const turn = this.#queue.then(() => this.#wait(mib, { signal: options.signal, deadline }));
    this.#queue = turn.catch(ignore("told to who asked"));
    return await turn;
  }

  async #wait(mib: number, { signal, deadline }: { signal: AbortSignal; deadline: number }): Promise<Disposable> {
    const { settings, logger } = this.#options;
    if (mib + OVERHEAD_MIB > settings.runningMemoryMib) {
      throw new ApiError(
        "host_memory_full",
        `the sprite has ${mib} MiB, more than all sprites may have together: ${settings.runningMemoryMib} MiB`,
      );
    }
    for (;;) {
      signal.throwIfAborted();
      const short = this.#shortage(mib);
      if (short === undefined) return this.#place(mib);
      if (performance.now() >= deadline) {
        logger.warn({ event: "sprite.admission", outcome: "refused", mib, reason: short }, "no room for one more machine");
        throw new ApiError("host_memory_full", `no memory for one more running sprite: ${short}`);
      }
      if (!(await this.#makeRoom(deadline - performance.now(), signal))) await sleep(LOOK_EVERY_MS, { signal });
    }
  }

  /** Not waited for longer than for the place: the sprite that is to sleep may itself wait for one behind it. */
  async #makeRoom(timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    try {
      return await withDeadline("room for one more machine", { timeoutMs, signal }, () => this.#options.makeRoom());
    } catch (error) {
      if (error instanceof DeadlineError) return false;
      throw error;
    }
  }

  #shortage(mib: number): string | undefined {
    const { settings, machinesMib, availableMib } = this.#options;
    const pendingMib = [...this.#pending].map((place) => place.mib);
    return shortage(mib, { machinesMib: machinesMib(), pendingMib, availableMib: (availableMib ?? hostAvailableMib)(), settings });
  }

  #place(mib: number): Disposable {
    const place = { mib };
    this.#pending.add(place);
    return { [Symbol.dispose]: () => void this.#pending.delete(place) };
  }
}

/** MemAvailable of the host, MiB. */
function hostAvailableMib(): number {
  const match = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8"));
  return match ? Math.floor(Number(match[1]) / 1024) : Number.POSITIVE_INFINITY;
}
