/**
 * State, machine and life of one sprite, changed together and stored before they are seen. The
 * steps (`wake.ts`, `sleep.ts`, `recover.ts`) run one at a time over it; nothing else writes it.
 */
import type { Logger } from "@sprited/base";
import { ApiError, type ErrorCode } from "@sprited/protocol/errors";
import type { VmExit } from "@sprited/vmm";
import type { Machine, MachineRecord, Machines, MachineSpec } from "../../machine/index.ts";
import { type LifeEnd, SpriteLife } from "../life.ts";
import { admit, isLostAlike, lifeOf, next, type SpriteEvent, type SpriteRequest, type SpriteState } from "../lifecycle.ts";
import type { SpriteRecords } from "../records.ts";
import type { MachineEvent } from "../machine-event.ts";
import type { Replacement } from "./replace.ts";

export interface DriverOptions {
  spriteId: string;
  state: SpriteState;
  records: SpriteRecords;
  machines: Machines;
  /** What the next VM of this sprite is made of. */
  machineSpec(): MachineSpec;
  /** The sprite's turn to start a machine (LIFE-32), until it is disposed. */
  startTurn?(signal: AbortSignal): Promise<Disposable | undefined>;
  /** Room on the host for one more machine (LIFE-27); held until the state shows the machine. Throws `host_memory_full`. */
  admit?(signal: AbortSignal): Promise<Disposable | undefined>;
  /** What another feature began to put in place of the sprite's files and could not finish (LIFE-30). */
  unsettled?(): Replacement | undefined;
  /** Frees the disk; called once, when the sprite is being deleted and no VM is left. */
  freeDisk(): Promise<void>;
  /** Called after every change of state. */
  publish(state: SpriteState): void;
  /** Called once, when the record is gone and nothing is left of the sprite. */
  freed(): void;
  /** Called when a machine of the sprite was handed out: it is active now. */
  touched?(): void;
  /** Told of what became of the machine, when it is so. */
  observe?(event: MachineEvent): void;
  /** Time an orderly stop may take before the VM is killed, ms. */
  stopGraceMs: number;
  logger: Logger;
  nowMs(): number;
}

export interface StateChange {
  machineBegun?: MachineRecord;
  machineEnded?: string;
  lastRunningAtMs?: number;
}

const DELETED: LifeEnd = { code: "sprite_deleted", reason: "the sprite was deleted" };

export class SpriteCore {
  readonly options: DriverOptions;
  /** The machine whose end is this sprite's business; running or paused. */
  machine: Machine | undefined;
  /** A machine whose memory is safe in its files and that could not be ended yet. */
  remnant: Machine | undefined;
  life: SpriteLife | undefined;
  readonly #onExit: (machine: Machine, exit: VmExit) => void;
  #state: SpriteState;

  /** `onExit` is called when a held machine ends by itself; it must become a step. */
  constructor(options: DriverOptions, onExit: (machine: Machine, exit: VmExit) => void) {
    this.options = options;
    this.#onExit = onExit;
    this.#state = options.state;
    const id = lifeOf(this.#state);
    if (id !== undefined) this.life = new SpriteLife(id);
  }

  get state(): SpriteState {
    return this.#state;
  }

  /** Whether a request acts; false: there is nothing to do. Throws when it is refused. */
  admits(request: SpriteRequest): boolean {
    const admission = admit(this.#state, request);
    if (admission.kind === "deny") throw denied(admission.code, this.#state);
    return admission.kind === "act";
  }

  /** Stores the state after `event`, then shows it. */
  apply(event: SpriteEvent, change?: StateChange): void {
    const before = this.#state;
    const after = next(before, event);
    if (after === before && !change?.machineEnded) return;
    const unflushed = isLostAlike(before, after) && change?.machineBegun === undefined && change?.machineEnded === undefined;
    this.options.records.updateState(this.options.spriteId, after, unflushed ? { ...change, unflushed } : change);
    this.#state = after;
    const id = lifeOf(after);
    if (this.life && this.life.id !== id) this.#endLife(event);
    if (id !== undefined && !this.life) this.life = new SpriteLife(id);
    this.options.publish(after);
  }

  /** From now on this machine's end is this sprite's business (LIFE-6). */
  hold(machine: Machine): void {
    this.machine = machine;
    void machine.exited.then((exit) => this.#onExit(machine, exit));
  }

  /** The machine has ended. `end`: why its memory's life ended with it. */
  gone(machine: Machine, end: LifeEnd): void {
    if (this.machine === machine) this.machine = undefined;
    this.life?.end(end);
    const reason = end.code === "vm_lost" ? end.reason : undefined;
    this.apply({ type: "vm_gone", incarnation: machine.incarnation, reason }, { machineEnded: machine.incarnation });
  }

  /** Ends what is left of a machine whose memory is safe. */
  async endRemnant(): Promise<void> {
    const machine = this.remnant;
    if (!machine) return;
    await machine.kill();
    this.remnant = undefined;
    this.apply({ type: "vm_gone", incarnation: machine.incarnation }, { machineEnded: machine.incarnation });
  }

  #endLife(event: SpriteEvent): void {
    const reason = "reason" in event && event.reason !== undefined ? event.reason : "the sprite's memory is gone";
    this.life?.end(event.type === "delete_begun" ? DELETED : { code: "vm_lost", reason });
    this.life = undefined;
  }
}

function denied(code: ErrorCode, state: SpriteState): ApiError {
  if (state.kind === "failed") return new ApiError(code, `the sprite has failed: ${state.reason}`);
  return new ApiError(code, "sprite not found");
}
