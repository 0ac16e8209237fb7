/**
 * One driver per sprite: the only writer of its state (docs/spec/lifecycle.md).
 *
 * Requests pass one after another through a bounded mailbox; equal requests join the one under
 * way. Order of every step: persist intent → act → persist outcome → publish. Everything that
 * comes back from a VM is checked against the current incarnation.
 */
import { AssertionError, ignore, Mailbox, MailboxFullError } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import type { VmExit } from "@sprited/vmm";
import type { Machine, MachineRecord } from "../../machine/index.ts";
import { type GuestLife, type LifeEnd, untilAborted } from "../life.ts";
import { incarnationOf, type SpriteState } from "../lifecycle.ts";
import { type DriverOptions, SpriteCore } from "./sprite-core.ts";
import { recover } from "./recover.ts";
import { sleep, type SleepOptions } from "./sleep.ts";
import { replace, type Replacement, settleReplacement } from "./replace.ts";
import { snapshot, type SnapshotOptions, type SnapshotSource } from "./still.ts";
import { comeBack, deletedWhileWaking, wake } from "./wake.ts";

/** Requests that may wait for one sprite. */
const MAILBOX_CAPACITY = 256;
const STOPPED: LifeEnd = { code: "sprite_stopped", reason: "the sprite was stopped" };
const DELETED: LifeEnd = { code: "sprite_deleted", reason: "the sprite was deleted" };

/** What other features do with a sprite's files. */
export type FileSteps = Pick<SpriteDriver, "snapshotStep" | "replaceState" | "settleReplacement">;

export class SpriteDriver {
  readonly #core: SpriteCore;
  readonly #mailbox = new Mailbox({ capacity: MAILBOX_CAPACITY });
  /** Stops, deletes and other steps that wait or run and after which a machine of now is no good. */
  #endings = 0;
  /** Sleeps that were asked for, wait or run. */
  #sleeps = 0;
  #waking: { outcome: Promise<Machine>; abort: AbortController } | undefined;

  constructor(options: DriverOptions) {
    this.#core = new SpriteCore(options, (machine, exit) => this.#exited(machine, exit));
  }

  get state(): SpriteState {
    return this.#core.state;
  }

  /** The machine, when the sprite runs; never wakes one. */
  get machine(): Machine | undefined {
    return this.#core.state.kind === "running" ? this.#core.machine : undefined;
  }

  /** The life that is kept, awake or asleep; undefined for a cold sprite. */
  get life(): GuestLife | undefined {
    return this.#core.life;
  }

  /** The disk exists: the sprite is acknowledged. */
  created(): void {
    this.#core.apply({ type: "created" });
  }

  /**
   * The running machine, after waking the sprite if need be (LIFE-2). The caller's signal ends
   * the caller's wait, not the wake that others may have joined.
   */
  async wake(options: { signal?: AbortSignal | undefined } = {}): Promise<Machine> {
    options.signal?.throwIfAborted();
    const running = this.#endings + this.#sleeps === 0 ? this.machine : undefined;
    if (running) {
      this.#core.options.touched?.();
      return running;
    }
    if (!this.#waking) {
      const abort = new AbortController();
      const settled = (): void => {
        if (this.#waking?.abort === abort) this.#waking = undefined;
      };
      // Settled inside the step: the next step must not take this wake for one that still waits.
      const outcome = this.#enqueue(() => wake(this.#core, abort.signal).finally(settled));
      outcome.catch(settled);
      this.#waking = { outcome, abort };
    }
    return await untilAborted(this.#waking.outcome, options.signal);
  }

  /**
   * Puts the sprite to sleep with its memory (LIFE-14). Ends where it stands when somebody waits
   * for the machine (LIFE-15). A success when it sleeps that deep already.
   */
  async sleep(options: { depth: SleepOptions["depth"] }): Promise<void> {
    this.#sleeps += 1;
    try {
      await this.#sleep(options.depth, () => true);
    } finally {
      this.#sleeps -= 1;
    }
  }

  /** The same for as long as `isIdle` says so; until the vCPUs are to stop, requests get the machine at once. */
  async sleepIfIdle(options: { depth: SleepOptions["depth"]; isIdle(): boolean }): Promise<void> {
    await this.#sleep(options.depth, options.isIdle);
  }

  /** Ends the VM in order (LIFE-7) and keeps no memory; a success when there is none. */
  async stop(): Promise<void> {
    await this.#ending(() => this.#stopNow());
  }

  /** Ends the VM and frees everything (LIFE-9). */
  async delete(): Promise<void> {
    this.#waking?.abort.abort(deletedWhileWaking());
    await this.#ending(() => this.#deleteNow());
  }

  /**
   * Runs `copy` alone over the sprite's quiet files: no wake, sleep, stop or delete happens
   * meanwhile. With `memory` the vCPUs stop for as long as it takes. Rejects with what `copy`
   * throws; the sprite is then as it was.
   */
  async snapshotStep<T>(options: SnapshotOptions, copy: (source: SnapshotSource) => Promise<T>): Promise<T> {
    return await this.#enqueue(() => snapshot(this.#core, options, copy));
  }

  /**
   * Ends the VM at once and the life with `end`, and lets `swap` put another disk, and a memory if
   * it likes, in place. With a memory the sprite is then hibernated in a new life (`placedLifeId`), else
   * cold. When `swap` throws it is cold, with whatever disk `swap` left.
   */
  async replaceState(replacement: Replacement): Promise<void> {
    await this.#ending(() => replace(this.#core, replacement));
  }

  /** Finishes a replacement that broke off (LIFE-30); the next use of the sprite does it too. */
  async settleReplacement(): Promise<void> {
    await this.#ending(() => settleReplacement(this.#core));
  }

  /** At daemon start: takes the VM of an earlier daemon over, or settles what is left of it (LIFE-10, LIFE-11). */
  async recover(record: MachineRecord | undefined): Promise<void> {
    await this.#enqueue(async () => {
      await recover(this.#core, record);
      if (this.#core.state.kind === "deleting") await this.#free();
    });
  }

  /** Lets go of the machine; its VM runs on. */
  async detach(): Promise<void> {
    await this.#core.machine?.detach();
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
        const { logger, spriteId } = this.#core.options;
        logger.error({ event: "sprite.broken", spriteId, err: error }, "invariant broken");
        this.#core.apply({ type: "broken", reason: error.message });
        throw new ApiError("sprite_failed", "the sprite is in an inconsistent state", { cause: error });
      }
      throw error;
    }
  }

  async #sleep(depth: SleepOptions["depth"], isIdle: () => boolean): Promise<void> {
    const wanted = (): boolean => this.#waking === undefined && this.#endings === 0 && isIdle();
    await this.#enqueue(() => sleep(this.#core, { depth, wanted }));
  }

  /** What sleeps comes back first: what the guest has not written yet is in its memory alone. */
  async #stopNow(): Promise<void> {
    const core = this.#core;
    if (!core.admits("stop")) return;
    const machine = await comeBack(core, new AbortController().signal);
    if (!machine) return;
    core.apply({ type: "stop_begun", incarnation: machine.incarnation });
    await machine.stop({ graceMs: core.options.stopGraceMs });
    core.gone(machine, STOPPED);
    core.options.observe?.({ kind: "slept", depth: "cold" });
  }

  async #deleteNow(): Promise<void> {
    const core = this.#core;
    core.admits("delete");
    core.life?.end(DELETED);
    core.apply({ type: "delete_begun" });
    for (const machine of [core.machine, core.remnant]) {
      if (!machine) continue;
      await machine.kill();
      core.gone(machine, DELETED);
    }
    // One whose end could not be stored is on record still, and only the state names it.
    const left = incarnationOf(core.state);
    if (left !== undefined) core.apply({ type: "vm_gone", incarnation: left }, { machineEnded: left });
    await this.#free();
  }

  async #free(): Promise<void> {
    const { freeDisk, records, spriteId, freed } = this.#core.options;
    await freeDisk();
    records.deleteSprite(spriteId);
    freed();
  }

  /**
   * A machine that ended without being asked to (LIFE-6). Whoever has seen it end and asks anew
   * waits for the next one: it is an ending from that moment, not when all is given back.
   */
  #exited(machine: Machine, exit: VmExit): void {
    const core = this.#core;
    const { logger, spriteId } = core.options;
    if (core.machine !== machine) return;
    this.#ending(async () => {
      if (core.machine !== machine) return;
      const { incarnation } = machine;
      logger.warn({ event: "vm.exit", spriteId, incarnation, kind: exit.kind, detail: exit.detail }, "the VM ended by itself");
      await machine.kill();
      const reason = exit.kind === "guest" ? "the sprite's machine was shut down from inside" : "the sprite's machine ended";
      core.gone(machine, { code: "vm_lost", reason });
    }).catch(ignore("the driver's own error path has logged it; recovery repeats it at the next start"));
  }
}
