/**
 * One driver per sprite: the only writer of its state (docs/spec/lifecycle.md).
 *
 * Requests pass one after another through a bounded mailbox; equal requests join the one under
 * way. Order of every step: persist intent → act → persist outcome → publish. Everything that
 * comes back from a VM is checked against the current incarnation.
 */
import { AssertionError, ignore, type Logger, Mailbox, MailboxFullError } from "@sprited/base";
import { ApiError, type ErrorCode } from "@sprited/protocol/errors";
import type { Machine, MachineRecord, Machines, MachineSpec } from "../machine/index.ts";
import { admit, incarnationOf, next, type SpriteEvent, type SpriteState } from "./lifecycle.ts";
import type { SpriteRecords } from "./records.ts";

/** Requests that may wait for one sprite. */
const MAILBOX_CAPACITY = 256;

export interface DriverOptions {
  spriteId: string;
  state: SpriteState;
  records: SpriteRecords;
  machines: Machines;
  /** What the next VM of this sprite is made of. */
  machineSpec(): MachineSpec;
  /** Frees the disk; called once, when the sprite is being deleted and no VM is left. */
  freeDisk(): Promise<void>;
  /** Called after every change of state. */
  publish(state: SpriteState): void;
  /** Called once, when the record is gone and nothing is left of the sprite. */
  freed(): void;
  /** Time an orderly stop may take before the VM is killed, ms. */
  stopGraceMs: number;
  logger: Logger;
  nowMs(): number;
}

export class SpriteDriver {
  readonly #options: DriverOptions;
  readonly #mailbox = new Mailbox({ capacity: MAILBOX_CAPACITY });
  #state: SpriteState;
  #machine: Machine | undefined;
  /** Stops and deletes that wait or run. */
  #endings = 0;
  #waking: { outcome: Promise<Machine>; abort: AbortController } | undefined;

  constructor(options: DriverOptions) {
    this.#options = options;
    this.#state = options.state;
  }

  get state(): SpriteState {
    return this.#state;
  }

  /** The machine, when the sprite runs; never wakes one. */
  get machine(): Machine | undefined {
    return this.#state.kind === "running" ? this.#machine : undefined;
  }

  /** The disk exists: the sprite is acknowledged. */
  created(): void {
    this.#apply({ type: "created" });
  }

  /**
   * The running machine, after waking the sprite if need be (LIFE-2). The caller's signal ends
   * the caller's wait, not the wake that others may have joined.
   */
  async wake(options: { signal?: AbortSignal | undefined } = {}): Promise<Machine> {
    options.signal?.throwIfAborted();
    const running = this.#endings === 0 ? this.machine : undefined;
    if (running) return running;
    if (!this.#waking) {
      const abort = new AbortController();
      const outcome = this.#enqueue(() => this.#wakeNow(abort.signal));
      const entry = { outcome, abort };
      this.#waking = entry;
      const settled = (): void => {
        if (this.#waking === entry) this.#waking = undefined;
      };
      outcome.then(settled, settled);
    }
    return await untilAborted(this.#waking.outcome, options.signal);
  }

  /** Ends the VM in order (LIFE-7); a success when there is none. */
  async stop(): Promise<void> {
    await this.#ending(() => this.#stopNow());
  }

  /** Ends the VM and frees everything (LIFE-9). */
  async delete(): Promise<void> {
    this.#waking?.abort.abort(new ApiError("sprite_not_found", "the sprite was deleted while it was waking"));
    await this.#ending(() => this.#deleteNow());
  }

  /** At daemon start: takes the VM of an earlier daemon over, or settles what is left of it (LIFE-10, LIFE-11). */
  async recover(record: MachineRecord | undefined): Promise<void> {
    await this.#enqueue(async () => {
      const machine = record ? await this.#options.machines.adopt(record) : undefined;
      const incarnation = incarnationOf(this.#state);
      if (machine && this.#state.kind === "running") {
        this.#hold(machine);
        return;
      }
      // A VM under `waking` may never have got its key; no command was accepted yet, so it can go.
      if (machine) await machine.kill();
      if (incarnation !== undefined) {
        this.#apply({ type: this.#state.kind === "waking" ? "wake_failed" : "vm_gone", incarnation }, { machineEnded: incarnation });
      }
      if (this.#state.kind === "deleting") await this.#free();
    });
  }

  /** A step that ends the VM: from the moment it is asked for, new requests queue behind it (LIFE-8). */
  async #ending(step: () => Promise<void>): Promise<void> {
    this.#endings += 1;
    try {
      await this.#enqueue(step);
    } finally {
      this.#endings -= 1;
    }
  }

  /** Runs a step alone; a broken invariant fails the sprite, not the daemon (LIFE-12). */
  async #enqueue<T>(step: () => Promise<T>): Promise<T> {
    try {
      return await this.#mailbox.run(step);
    } catch (error) {
      if (error instanceof MailboxFullError) throw new ApiError("busy", "too many requests are waiting for this sprite", { cause: error });
      if (error instanceof AssertionError) {
        this.#options.logger.error({ event: "sprite.broken", spriteId: this.#options.spriteId, err: error }, "invariant broken");
        this.#apply({ type: "broken", reason: error.message });
        throw new ApiError("sprite_failed", "the sprite is in an inconsistent state", { cause: error });
      }
      throw error;
    }
  }

  async #wakeNow(signal: AbortSignal): Promise<Machine> {
    const admission = admit(this.#state, "wake");
    if (admission.kind === "deny") throw denied(admission.code, this.#state);
    if (this.#machine && this.#state.kind === "running") return this.#machine;
    signal.throwIfAborted();
    const startedMs = this.#options.nowMs();
    const record = await this.#options.machines.plan(this.#options.spriteId, { signal });
    const { incarnation } = record;
    this.#apply({ type: "wake_begun", incarnation }, { machineBegun: record });
    let machine: Machine;
    try {
      machine = await this.#options.machines.start(record, this.#options.machineSpec(), { signal });
    } catch (error) {
      this.#apply({ type: "wake_failed", incarnation }, { machineEnded: incarnation });
      throw error;
    }
    this.#hold(machine);
    this.#apply({ type: "woken", incarnation }, { lastRunningAtMs: this.#options.nowMs() });
    this.#options.logger.info(
      { event: "sprite.wake", outcome: "ok", spriteId: this.#options.spriteId, incarnation, durationMs: this.#options.nowMs() - startedMs },
      "woken",
    );
    return machine;
  }

  async #stopNow(): Promise<void> {
    const admission = admit(this.#state, "stop");
    if (admission.kind === "deny") throw denied(admission.code, this.#state);
    if (admission.kind === "done") return;
    const machine = this.#machine;
    if (!machine) return;
    this.#apply({ type: "stop_begun", incarnation: machine.incarnation });
    await machine.stop({ graceMs: this.#options.stopGraceMs });
    this.#gone(machine);
  }

  async #deleteNow(): Promise<void> {
    const admission = admit(this.#state, "delete");
    if (admission.kind === "deny") throw denied(admission.code, this.#state);
    this.#apply({ type: "delete_begun" });
    if (this.#machine) {
      await this.#machine.kill();
      this.#gone(this.#machine);
    }
    await this.#free();
  }

  async #free(): Promise<void> {
    await this.#options.freeDisk();
    this.#options.records.deleteSprite(this.#options.spriteId);
    this.#options.freed();
  }

  /**
   * From now on this machine's end is this sprite's business (LIFE-6). Whoever has seen it end and
   * asks anew waits for the next one: it is an ending from that moment, not when all is given back.
   */
  #hold(machine: Machine): void {
    this.#machine = machine;
    void machine.exited.then((exit) => {
      this.#ending(async () => {
        if (this.#machine !== machine) return;
        this.#options.logger.warn(
          { event: "vm.exit", spriteId: this.#options.spriteId, incarnation: machine.incarnation, kind: exit.kind, detail: exit.detail },
          "the VM ended by itself",
        );
        await machine.kill();
        this.#gone(machine);
      }).catch(ignore("the driver's own error path has logged it; recovery repeats it at the next start"));
    });
  }

  #gone(machine: Machine): void {
    if (this.#machine === machine) this.#machine = undefined;
    this.#apply({ type: "vm_gone", incarnation: machine.incarnation }, { machineEnded: machine.incarnation });
  }

  #apply(event: SpriteEvent, change?: { machineBegun?: MachineRecord; machineEnded?: string; lastRunningAtMs?: number }): void {
    const before = this.#state;
    const after = next(before, event);
    if (after === before && !change?.machineEnded) return;
    this.#options.records.updateState(this.#options.spriteId, after, change);
    this.#state = after;
    this.#options.publish(after);
  }
}

function denied(code: ErrorCode, state: SpriteState): ApiError {
  if (state.kind === "failed") return new ApiError(code, `the sprite has failed: ${state.reason}`);
  return new ApiError(code, "sprite not found");
}

/** Waits for `outcome`, or rejects with the signal's reason; `outcome` goes on. */
async function untilAborted<T>(outcome: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return await outcome;
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
