/**
 * Machines without VMs for tests of the driver: a host whose machines outlive drivers, with memory
 * in real files, whose starts, ends and faults the test decides.
 */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { mkdtempSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { silentLogger } from "@sprited/base";
import { type VmExit, VmmError } from "@sprited/vmm";
import { type Machine, type MachineRecord, type Machines, type MachineSpec, memoryPaths, type MemoryRecord } from "../../machine/index.ts";
import { type Replacement, SpriteDriver } from "../driver/index.ts";
import type { SpriteState } from "../lifecycle.ts";
import type { SpriteRecords } from "../records.ts";

/** What a guest keeps in its memory. */
interface Guest {
  /** Incarnation it was booted in: the id of its life. */
  born: string;
}

interface Vm {
  guest: Guest;
  isPaused: boolean;
  end(exit: VmExit): void;
  exited: Promise<VmExit>;
}

/** The daemon died: everything it does afterwards goes nowhere. */
export class Killed extends Error {}

export class StagedHost {
  /** Turns to start a machine that were taken, and that are held. */
  readonly turns = { taken: 0, held: 0 };
  /** What another feature has half replaced. */
  unsettled: Replacement | undefined;
  readonly vms = new Map<string, Vm>();
  /** Guests by the save they were written in; gone once resumed. */
  readonly saves = new Map<string, Guest>();
  readonly directory = mkdtempSync(path.join(os.tmpdir(), "sprited-staged-"));
  readonly memoryDirectory = path.join(this.directory, "memory");
  /** Resumes of what had run before: must stay empty. */
  readonly wrongResumes: string[] = [];
  /** The saved memories of starts, and of resumes that finish another daemon's. */
  readonly memories: (MemoryRecord | undefined)[] = [];
  starts = 0;
  stops: string[] = [];
  /** Steps that may still be done before the daemon dies. */
  stepsLeft = Number.POSITIVE_INFINITY;
  failNext: Error | undefined;
  failSave: Error | undefined;
  failResume: Error | undefined;
  problem: string | undefined;
  gate: Promise<void> = Promise.resolve();
  killGate: Promise<void> = Promise.resolve();
  #count = 0;
  #saveCount = 0;

  /** Which daemon is alive; those before it are dead. */
  daemon = 0;

  step(daemon: number): void {
    if (this.stepsLeft <= 0 || daemon !== this.daemon) throw new Killed("the daemon was killed");
    this.stepsLeft -= 1;
  }

  boot(guest: Guest | undefined, incarnation: string): void {
    const { promise, resolve } = Promise.withResolvers<VmExit>();
    const end = (exit: VmExit): void => {
      this.vms.delete(incarnation);
      resolve(exit);
    };
    this.vms.set(incarnation, { guest: guest ?? { born: incarnation }, isPaused: false, end, exited: promise });
  }

  nextIncarnation(): string {
    this.#count += 1;
    return `i${this.#count}`;
  }

  nextSave(): number {
    this.#saveCount += 1;
    return this.#saveCount;
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export class StagedMachines implements Machines {
  readonly host: StagedHost;
  readonly #step: () => void;

  constructor(host: StagedHost, step: () => void) {
    this.host = host;
    this.#step = step;
  }

  async plan(spriteId: string): Promise<MachineRecord> {
    this.#step();
    const incarnation = this.host.nextIncarnation();
    return { incarnation, spriteId, directory: "/nowhere", slotIndex: undefined, key: new Uint8Array(32), createdAtMs: 0 };
  }

  async forget(): Promise<void> {}

  async start(
    record: MachineRecord,
    spec: MachineSpec,
    options: { signal?: AbortSignal | undefined; memory?: MemoryRecord | undefined } = {},
  ): Promise<Machine> {
    const { host } = this;
    this.#step();
    host.starts += 1;
    host.memories.push(options.memory);
    await host.gate;
    options.signal?.throwIfAborted();
    if (host.failNext) {
      const error = host.failNext;
      host.failNext = undefined;
      throw error;
    }
    const { ram, state } = memoryPaths(spec.memoryDirectory);
    let guest: Guest | undefined;
    if (options.memory) {
      const save = String(options.memory.savedAtMs);
      guest = host.saves.get(save);
      if (!guest) host.wrongResumes.push(save);
      host.saves.delete(save);
      rmSync(state);
      this.#step();
    } else {
      mkdirSync(spec.memoryDirectory, { recursive: true });
      writeFileSync(ram, "");
    }
    host.boot(guest, record.incarnation);
    this.#step();
    if (host.failResume) {
      const error = host.failResume;
      host.failResume = undefined;
      host.vms.get(record.incarnation)?.end({ kind: "requested", detail: "" });
      throw error;
    }
    return this.#machine(record.incarnation);
  }

  async memoryProblem(): Promise<string | undefined> {
    return this.host.problem;
  }

  async adopt(record: MachineRecord): Promise<Machine | undefined> {
    return this.host.vms.has(record.incarnation) ? this.#machine(record.incarnation) : undefined;
  }

  #machine(incarnation: string): Machine {
    const { host } = this;
    const found = host.vms.get(incarnation);
    if (!found) throw new VmmError("vmm_exited_early", "the VM has ended");
    const vm = (): Vm => {
      this.#step();
      const alive = host.vms.get(incarnation);
      if (!alive) throw new VmmError("vmm_exited_early", "the VM has ended");
      return alive;
    };
    return {
      incarnation,
      pid: 1,
      exited: found.exited,
      link: async () => {
        throw new Error("no guest here");
      },
      pause: async () => {
        vm().isPaused = true;
      },
      resume: async (_spec, options) => {
        vm().isPaused = false;
        host.memories.push(options.memory);
        if (!host.failResume) return;
        const error = host.failResume;
        host.failResume = undefined;
        throw error;
      },
      saveMemory: async (spec) => {
        const { guest } = vm();
        if (host.failSave) {
          const error = host.failSave;
          host.failSave = undefined;
          throw error;
        }
        const { ram, state } = memoryPaths(spec.memoryDirectory);
        writeFileSync(ram, guest.born);
        writeFileSync(state, guest.born);
        const savedAtMs = host.nextSave();
        host.saves.set(String(savedAtMs), guest);
        this.#step();
        return { ...RECORD, savedAtMs };
      },
      forgetSaved: async () => {
        this.#step();
        rmSync(memoryPaths(host.memoryDirectory).state, { force: true });
      },
      stop: async () => {
        this.#step();
        host.stops.push(incarnation);
        found.end({ kind: "requested", detail: "" });
      },
      detach: async () => {},
      kill: async () => {
        this.#step();
        await host.killGate;
        found.end({ kind: "requested", detail: "" });
      },
    };
  }
}

const RECORD: MemoryRecord = {
  build: "staged",
  shape: { cpus: 1, memoryMib: 256 },
  storageGb: 10,
  network: false,
  system: "staged",
  generation: 1,
  agentVersion: "0",
  ramOffset: 0,
  savedAtMs: 0,
};

/** What the database holds; outlives drivers. */
export class StagedStore {
  state: SpriteState;
  machine: MachineRecord | undefined;
  readonly written: { state: SpriteState; begun: string | undefined; ended: string | undefined }[] = [];
  isDeleted = false;
  /** Writes of the state that fail, after so many that do not. */
  fails = { after: 0, count: 0 };

  constructor(state: SpriteState) {
    this.state = state;
  }

  records(step: () => void): SpriteRecords {
    return {
      loadSprites: () => [],
      loadMachines: () => [],
      insertSprite: () => {},
      finishBatch: () => {},
      updateSprite: () => {},
      claimSprite: (_sprite, record) => record(),
      updateState: (_id, after, change) => {
        step();
        this.#write();
        this.state = after;
        if (change?.machineEnded !== undefined && this.machine?.incarnation === change.machineEnded) this.machine = undefined;
        if (change?.machineBegun) this.machine = change.machineBegun;
        this.written.push({ state: after, begun: change?.machineBegun?.incarnation, ended: change?.machineEnded });
      },
      deleteSprite: () => {
        if (this.machine) throw new Error("its machine is on record");
        this.isDeleted = true;
      },
    };
  }

  #write(): void {
    if (this.fails.count === 0) return;
    if (this.fails.after > 0) this.fails.after -= 1;
    else {
      this.fails.count -= 1;
      throw new Error("injected");
    }
  }
}

/** A driver over a host and a store that may have had others before. */
export function stagedDriver(host: StagedHost, store: StagedStore) {
  host.daemon += 1;
  const { daemon } = host;
  const step = (): void => host.step(daemon);
  const log = { freed: false, diskFreed: false };
  const driver = new SpriteDriver({
    spriteId: "s1",
    state: store.state,
    records: store.records(step),
    machines: new StagedMachines(host, step),
    machineSpec: () => ({
      shape: { cpus: 1, memoryMib: 256 },
      storageGb: 10,
      diskPath: "/nowhere/disk.raw",
      memoryDirectory: host.memoryDirectory,
      hostname: "s1",
      machineId: "0".repeat(32),
      renewIdentity: false,
      environment: {},
    }),
    unsettled: () => host.unsettled,
    startTurn: async () => {
      host.turns.taken += 1;
      host.turns.held += 1;
      return { [Symbol.dispose]: () => void (host.turns.held -= 1) };
    },
    freeDisk: async () => {
      log.diskFreed = true;
    },
    publish: () => {},
    freed: () => {
      log.freed = true;
    },
    stopGraceMs: 1000,
    logger: silentLogger,
    nowMs: () => 0,
  });
  return { driver, log };
}
