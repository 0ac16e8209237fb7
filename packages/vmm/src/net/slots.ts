/**
 * Which slot is free, ready or taken: the pool over a `SlotBuilder`.
 *
 * ```
 *          make                acquire              release            remove
 *  free ─────────► ready ────────────────► taken ────────────► used ───────────► free
 *                                            ▲ adopt             │ settle
 *                                          found ────────────────┘
 * ```
 *
 * Invariants: every number is in exactly one place; one worker makes and removes, so that the
 * two never meet on one number; numbers are reused in the order they were given back, so that
 * the host's memory of old connections has time to fade.
 */
import { assert, ignore, type Logger, silentLogger, sleep, withDeadline } from "@sprited/base";
import { VmmError } from "../errors.ts";
import { findSlots, HostSlotBuilder } from "./builder.ts";
import { removeNetworksOfGoneHomes } from "./gone-homes.ts";
import { HostNetwork } from "./host.ts";
import type { NetworkOptions, NetworkProblem, NetworkSlot, OpenNetworkSlots } from "./network.ts";
import { planNetwork } from "./plan.ts";
import { findResolvers } from "./resolvers.ts";

/** How long `acquire` may wait for a slot to be made, `ms`; above the limit of one command. */
const ACQUIRE_TIMEOUT_MS = 60_000;
/** Slots made in one go: a waiting caller gets its slot when its batch is done. */
const BATCH_SLOTS = 8;

/** Makes and removes slots by number; the pool alone decides which. */
export interface SlotBuilder {
  /** What limits the slots on this host. */
  readonly problems: readonly NetworkProblem[];
  /** Looks at the host's own rules again and restores what is missing. */
  refresh(): Promise<void>;
  /** The slot as callers see it; touches nothing. */
  describe(index: number): NetworkSlot;
  /** Makes all of them or none. Throws `VmmError` `vmm_network`. */
  make(indices: readonly number[]): Promise<void>;
  /** Removes all of them, also half-made ones and those already gone. */
  remove(indices: readonly number[]): Promise<void>;
  /** Brings a slot of an earlier run into order; false when its VM cannot have a network any more. */
  repair(index: number): Promise<boolean>;
  /** Those in which a process runs. */
  occupied(indices: readonly number[]): Promise<number[]>;
  /** Takes back what the host has for this home beside slots. */
  leave(): Promise<void>;
}

/**
 * Opens the slots of one home: prepares the host and finds what an earlier run left. Only one
 * program may have the slots of a home open. Throws `VmmError` `vmm_network`. Then `adopt` for
 * each VM that survived, then `settle`.
 */
export async function openNetworkSlots(options: NetworkOptions & { log?: Logger }): Promise<OpenNetworkSlots> {
  const log = options.log ?? silentLogger;
  const plan = planNetwork({ ...options, resolvers: options.resolvers ?? (await findResolvers()) });
  try {
    await removeNetworksOfGoneHomes({ layout: options.layout, log });
    const found = await findSlots(plan);
    const host = await HostNetwork.open(plan, { hasSlots: found.length > 0, log });
    return new SlotPool({ builder: new HostSlotBuilder(plan, host, log), found, spare: plan.spare, max: plan.max, log });
  } catch (cause) {
    if (cause instanceof VmmError) throw cause;
    throw new VmmError("vmm_network", "the host's network could not be prepared; `sprited doctor` checks what it needs", { cause });
  }
}

interface Waiter {
  resolve: (slot: NetworkSlot) => void;
  reject: (error: unknown) => void;
}

export class SlotPool implements OpenNetworkSlots {
  readonly #builder: SlotBuilder;
  readonly #spare: number;
  readonly #max: number;
  readonly #log: Logger;
  /** Numbers without anything on the host, longest unused first. */
  readonly #free: number[];
  readonly #ready: NetworkSlot[] = [];
  readonly #taken = new Map<number, NetworkSlot>();
  /** Given back, still to be removed. */
  #used: number[] = [];
  /** Of an earlier run, not adopted yet. */
  readonly #found: Set<number>;
  readonly #waiters: Waiter[] = [];
  #worker: Promise<void> | undefined;
  #settling: Promise<void> | undefined;
  #closed = false;

  constructor(options: { builder: SlotBuilder; found: readonly number[]; spare: number; max: number; log: Logger }) {
    this.#builder = options.builder;
    this.#spare = options.spare;
    this.#max = options.max;
    this.#log = options.log;
    this.#found = new Set(options.found);
    this.#free = Array.from({ length: options.max }, (_, index) => index).filter((index) => !this.#found.has(index));
  }

  get problems(): readonly NetworkProblem[] {
    return this.#builder.problems;
  }

  async refresh(): Promise<void> {
    if (!this.#closed) await this.#builder.refresh();
  }

  async acquire(options: { signal?: AbortSignal } = {}): Promise<NetworkSlot> {
    options.signal?.throwIfAborted();
    if (this.#closed) throw closedError();
    void this.settle();
    const ready = this.#ready.shift();
    if (ready) {
      this.#take(ready);
      this.#work();
      return ready;
    }
    const { promise, resolve, reject } = Promise.withResolvers<NetworkSlot>();
    const waiter: Waiter = { resolve, reject };
    this.#waiters.push(waiter);
    this.#work();
    try {
      return await withDeadline("a network slot", { timeoutMs: ACQUIRE_TIMEOUT_MS, signal: options.signal }, () => promise);
    } catch (error) {
      const position = this.#waiters.indexOf(waiter);
      if (position >= 0) this.#waiters.splice(position, 1);
      // Served at the very moment its caller gave up: nobody else would give the slot back.
      promise.then((slot) => this.release(slot)).catch(ignore("the caller has the error already"));
      throw error;
    }
  }

  async release(slot: NetworkSlot): Promise<void> {
    assert(this.#taken.delete(slot.index), `network slot ${slot.index} is released, but not taken`);
    this.#used.push(slot.index);
    this.#work();
  }

  async adopt(index: number): Promise<NetworkSlot | undefined> {
    if (this.#closed) throw closedError();
    if (!this.#found.delete(index)) return undefined;
    const slot = this.#builder.describe(index);
    this.#taken.set(index, slot);
    let repaired = false;
    try {
      repaired = await this.#builder.repair(index);
    } finally {
      if (!repaired) {
        this.#taken.delete(index);
        this.#found.add(index);
      }
    }
    return repaired ? slot : undefined;
  }

  settle(): Promise<void> {
    this.#settling ??= this.#dropFound().then(() => this.#work());
    return this.#settling;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const waiter of this.#waiters.splice(0)) waiter.reject(closedError());
    await this.#settling;
    await this.#worker;
    await this.#dropFound();
    const doomed = [...this.#used.splice(0), ...this.#ready.splice(0).map((slot) => slot.index)];
    if (doomed.length > 0) await this.#builder.remove(doomed);
    if (this.#taken.size === 0 && this.#found.size === 0) await this.#builder.leave();
  }

  #take(slot: NetworkSlot): void {
    this.#taken.set(slot.index, slot);
  }

  /** Gives up what was found and not adopted, except where a process still runs. */
  async #dropFound(): Promise<void> {
    const candidates = [...this.#found];
    const occupied = new Set(
      await this.#builder.occupied(candidates).catch((error: unknown) => {
        this.#log.error(
          { event: "slots_unknown", err: error },
          "cannot tell which network slots of an earlier run are in use: all are kept",
        );
        return candidates;
      }),
    );
    for (const index of candidates) {
      if (occupied.has(index)) {
        this.#log.warn({ event: "slot_occupied", index }, "a network slot of an earlier run holds a process and is left alone");
      } else if (this.#found.delete(index)) {
        this.#used.push(index);
      }
    }
  }

  /** Starts the worker unless it runs. */
  #work(): void {
    if (this.#closed || this.#worker) return;
    this.#worker = this.#loop();
  }

  /** Makes and removes until there is nothing to do; never rejects. Forgets itself in the turn it decides so. */
  async #loop(): Promise<void> {
    // Starting a process blocks for milliseconds: the caller of `acquire` goes on first, and callers of one moment share a batch.
    await sleep(0);
    await this.#settling;
    while (!this.#closed) {
      // Who waits comes first: a batch is done when its last slot is.
      const missing = this.#waiters.length > 0 ? this.#waiters.length : this.#spare - this.#ready.length;
      const room = this.#max - this.#taken.size - this.#ready.length - this.#found.size;
      const count = Math.min(missing, room, this.#free.length, BATCH_SLOTS);
      const urgent = this.#waiters.length > 0 && count > 0;
      if (this.#used.length > 0 && !urgent) await this.#removeUsed();
      else if (count > 0) {
        if (!(await this.#makeReady(count))) break;
      } else break;
    }
    this.#worker = undefined;
    for (const waiter of this.#waiters.splice(0)) {
      waiter.reject(new VmmError("vmm_network", `all ${this.#max} network slots are in use; stop a sprite to free one`));
    }
  }

  async #makeReady(count: number): Promise<boolean> {
    const indices = this.#free.splice(0, count);
    try {
      await this.#builder.make(indices);
    } catch (error) {
      this.#free.push(...indices);
      this.#log.error({ event: "slots_failed", indices, err: error }, "could not make network slots");
      for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
      return false;
    }
    for (const index of indices) {
      const slot = this.#builder.describe(index);
      const waiter = this.#waiters.shift();
      if (!waiter) this.#ready.push(slot);
      else {
        this.#take(slot);
        waiter.resolve(slot);
      }
    }
    return true;
  }

  async #removeUsed(): Promise<void> {
    const indices = this.#used.splice(0);
    try {
      await this.#builder.remove(indices);
      this.#free.push(...indices.filter((index) => index < this.#max));
    } catch (error) {
      // The numbers stay out of use: what is left of them could meet a new slot.
      this.#log.error({ event: "slots_not_removed", indices, err: error }, "could not remove network slots");
    }
  }
}

function closedError(): VmmError {
  return new VmmError("vmm_network", "the network slots are being closed");
}
