/**
 * One life of a guest's memory: from a boot until that memory is lost. Machines (VM runs) come and
 * go within a life: a sprite that sleeps with its memory has no machine and lives on.
 *
 * Whoever follows something that lives in guest memory (a session, a connection) holds a life,
 * never a machine: it waits through sleeps and daemon restarts and hears once when all is lost.
 */
import { ignore } from "@sprited/base";
import { VmmError } from "@sprited/vmm";
import type { GuestLink } from "../guest/index.ts";
import type { Machine } from "../machine/index.ts";

/** Why a life ended; a `code` of the error registry and a sentence for people. */
export interface LifeEnd {
  code: "vm_lost" | "sprite_stopped" | "sprite_restored" | "sprite_deleted";
  reason: string;
}

export interface GuestLife {
  /** Id of the life; stored, so that a restarted daemon can tell what still lives. The incarnation of its first machine. */
  readonly id: string;
  /** Resolves once, when the memory is gone. Never rejects. */
  readonly ended: Promise<LifeEnd>;
  /** Whether a machine runs it now: `link` need not wait for a wake. */
  readonly isAwake: boolean;
  /**
   * The open link to the guest, dialled anew when the last one broke. Waits while the sprite
   * sleeps and never wakes it. Rejects with `GuestError` when the agent does not answer, with
   * `VmmError` when the life has ended.
   */
  link(options?: { signal?: AbortSignal | undefined }): Promise<GuestLink>;
}

/** Lives that began with a memory put in place are known by their id, for as long as they last. */
const PLACED = "placed-";

export function placedLifeId(id: string): string {
  return `${PLACED}${id}`;
}

/** Whether a life began with a memory put in place: its guest may hold what began in another life. */
export function isPlacedLife(life: Pick<GuestLife, "id">): boolean {
  return life.id.startsWith(PLACED);
}

/** The life that a sprite's driver conducts: it names the machine, and the end. */
export class SpriteLife implements GuestLife {
  readonly id: string;
  readonly ended: Promise<LifeEnd>;
  #machine: Machine | undefined;
  #end: LifeEnd | undefined;
  #changed = Promise.withResolvers<void>();
  readonly #settle: (end: LifeEnd) => void;

  constructor(id: string) {
    this.id = id;
    const { promise, resolve } = Promise.withResolvers<LifeEnd>();
    this.ended = promise;
    this.#settle = resolve;
  }

  get isAwake(): boolean {
    return this.#machine !== undefined;
  }

  /** From now on links lead to this machine. */
  awake(machine: Machine): void {
    this.#machine = machine;
    this.#announce();
  }

  /** No machine runs; who asks for a link waits. */
  asleep(): void {
    this.#machine = undefined;
    this.#announce();
  }

  /** The memory is gone. Only the first end counts. */
  end(end: LifeEnd): void {
    if (this.#end) return;
    this.#end = end;
    this.#machine = undefined;
    this.#settle(end);
    this.#announce();
  }

  async link(options: { signal?: AbortSignal | undefined } = {}): Promise<GuestLink> {
    for (;;) {
      options.signal?.throwIfAborted();
      if (this.#end) throw new VmmError("vmm_exited_early", "the life of the sprite's memory has ended");
      const machine = this.#machine;
      if (!machine) {
        await untilAborted(this.#changed.promise, options.signal);
        continue;
      }
      try {
        return await machine.link(options);
      } catch (error) {
        // It was put to sleep while it was being asked: the next machine answers.
        if (this.#machine === machine) throw error;
      }
    }
  }

  #announce(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }
}

/** Waits for `outcome`, or rejects with the signal's reason; `outcome` goes on. */
export async function untilAborted<T>(outcome: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return await outcome;
  signal.throwIfAborted();
  outcome.catch(ignore("the waiter may have left; whoever started it sees the outcome"));
  let onAbort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason as Error);
    signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    return await Promise.race([outcome, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** The life of a machine that never sleeps: both end together. */
export function lifeOfMachine(machine: Machine): GuestLife {
  return {
    id: machine.incarnation,
    ended: machine.exited.then((exit) => ({
      code: "vm_lost",
      reason: exit.kind === "guest" ? "the sprite's machine was shut down from inside" : "the sprite's machine ended",
    })),
    isAwake: true,
    link: (options) => machine.link(options),
  };
}
