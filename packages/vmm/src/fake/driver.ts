/**
 * The simulated driver: `VmmDriver` without machines. Guests are functions of the caller behind
 * real ports; directories, records, memory and state are files as a real driver's are, so that
 * adoption, crashes and unusable snapshots mean the same. Proved by the contract suite.
 */
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import type { Duplex } from "node:stream";
import { assert, Scope } from "@sprited/base";
import { z } from "zod";
import { VmmError } from "../errors.ts";
import { checkSpec, STATE_OFFSET } from "../qemu/args.ts";
import { forgetUsed, onceState, useUp } from "../qemu/once.ts";
import { createVmDirectory, findRecord, findText, vmPaths, writeRecord } from "../qemu/record.ts";
import { sealState, unusable, verifySnapshot } from "../qemu/snapshot.ts";
import type { MemorySnapshot, VmExit, VmmDriver, VmProcess, VmSpec } from "../vmm.ts";
import { SimulatedHost } from "./host.ts";
import { createRam, type ParkedGuest, type SimulatedGuest, SimulatedMachine } from "./machine.ts";

const BUILD = "simulated 1";

const identityFile = z.object({ pid: z.int(), startTicks: z.string() });

export interface SimulatedDriverOptions {
  /** What runs in every machine. */
  guest: SimulatedGuest;
  /** Given: the driver finds what an earlier one left there. */
  host?: SimulatedHost;
}

export function openSimulatedDriver(options: SimulatedDriverOptions): VmmDriver {
  const host = options.host ?? new SimulatedHost();
  return {
    name: "simulated",
    build: BUILD,
    savesPrivateMemory: true,
    accelerator: { kind: "simulated", reason: "no machine, a function of this program" },
    start: async (spec, call) => start(spec, { guest: options.guest, host, signal: call?.signal }),
    adopt: async (directory) => adopt(directory, host),
    close: async () => {},
  };
}

interface StartContext {
  guest: SimulatedGuest;
  host: SimulatedHost;
  signal: AbortSignal | undefined;
}

async function start(spec: VmSpec, context: StartContext): Promise<VmProcess> {
  const { host, signal } = context;
  signal?.throwIfAborted();
  checkSpec(spec);
  await using scope = new Scope(`start of VM ${spec.incarnation}`);
  const { memory } = spec;
  if (memory.kind === "snapshot") await verifySnapshot(memory.snapshot, { build: BUILD, shape: spec.shape });
  const paths = vmPaths(spec.directory);
  await createVmDirectory(paths, undefined);
  scope.defer("VM directory", () => fs.rm(spec.directory, { recursive: true, force: true }));
  await writeRecord(paths, { build: BUILD, cgroups: [], spec });
  if (memory.kind === "fresh") {
    scope.defer("RAM file", () => fs.rm(memory.path, { force: true }));
    createRam(spec, memory.path);
  }
  await requireDisks(spec);
  await meetFault(context);
  const statePath = onceState(spec);
  const token = statePath === undefined ? undefined : await savedToken(statePath);
  if (statePath !== undefined) {
    await useUp(statePath);
    await forgetUsed(statePath);
  }
  const machine = openMachine(spec, token === undefined ? undefined : host.takeParked(token));
  machine.onParked = ({ token: saved, ...parked }) => host.park(saved, parked);
  const identity = host.admit(machine);
  machine.startTicks = identity.startTicks;
  scope.defer("machine", () => machine.end("requested"));
  // A real VM's launcher writes it itself: there is no moment in which a process is and nothing names it.
  writeFileSync(paths.process, JSON.stringify(identity), { mode: 0o600 });
  await machine.boot(context.guest);
  signal?.throwIfAborted();
  await fs.writeFile(paths.started, "");
  scope.move();
  return new SimulatedVm(machine, identity.pid);
}

/** What names a save, behind the header of its device state. */
async function savedToken(statePath: string): Promise<string> {
  return (await fs.readFile(statePath)).subarray(STATE_OFFSET).toString();
}

function openMachine(spec: VmSpec, parked: ParkedGuest | undefined): SimulatedMachine {
  try {
    return new SimulatedMachine(spec, parked);
  } catch (cause) {
    throw spec.memory.kind === "snapshot"
      ? unusable("its RAM file cannot be read", cause)
      : new VmmError("vmm_control", "the VM's RAM file cannot be read", { cause });
  }
}

async function requireDisks(spec: VmSpec): Promise<void> {
  for (const disk of spec.disks) {
    await fs.access(disk.path).catch((cause: unknown) => {
      throw new VmmError("vmm_control", "the VM's disk file cannot be opened", { cause });
    });
  }
}

async function meetFault({ host, signal }: StartContext): Promise<void> {
  const fault = host.takeStartFault();
  if (fault?.kind === "fail") throw fault.error;
  if (fault?.kind !== "hang") return;
  signal?.throwIfAborted();
  await new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason as Error), { once: true }));
}

async function adopt(directory: string, host: SimulatedHost): Promise<VmProcess | undefined> {
  const paths = vmPaths(directory);
  const text = await findText(paths.process);
  const identity = text === undefined ? undefined : identityFile.safeParse(JSON.parse(text)).data;
  const machine = identity && host.find(identity);
  const record = await findRecord(paths);
  // One that resumes what can be resumed once may have run: it is kept.
  const isStarted = (await findText(paths.started)) !== undefined || (record !== undefined && onceState(record.spec) !== undefined);
  if (machine && identity && record && isStarted) return new SimulatedVm(machine, identity.pid);
  await machine?.end("requested");
  await fs.rm(directory, { recursive: true, force: true });
  return undefined;
}

class SimulatedVm implements VmProcess {
  readonly incarnation: string;
  readonly pid: number;
  readonly spec: VmSpec;
  readonly exited: Promise<VmExit>;
  readonly #machine: SimulatedMachine;

  constructor(machine: SimulatedMachine, pid: number) {
    this.#machine = machine;
    this.spec = machine.spec;
    this.incarnation = machine.spec.incarnation;
    this.pid = pid;
    this.exited = machine.ended.then((kind) => ({ kind, detail: "" }));
  }

  async openPort(name: string, options: { signal?: AbortSignal } = {}): Promise<Duplex> {
    const port = this.#machine.ports.get(name);
    assert(port, `the VM has no port ${name}`);
    if (this.#machine.hasEnded) throw new VmmError("vmm_exited_early", "the VM has ended");
    return port.open(options.signal);
  }

  async pause(): Promise<void> {
    this.#requireControl().setPaused(true);
  }

  async resume(): Promise<void> {
    this.#requireControl().setPaused(false);
  }

  async isPaused(): Promise<boolean> {
    return this.#requireControl().isPaused;
  }

  async saveState(statePath: string): Promise<MemorySnapshot> {
    const { memory, shape } = this.spec;
    const savePath = memory.kind === "snapshot" && memory.mapping === "private" ? memory.savePath : undefined;
    const isPrivate = memory.kind === "snapshot" && memory.mapping === "private";
    if (isPrivate && savePath === undefined) {
      throw new VmmError("vmm_not_shared", "the VM's memory is a private view of another's file; it has no file of its own to keep");
    }
    const machine = this.#requireControl();
    if (!machine.isPaused) throw new VmmError("vmm_control", "the state of a running VM cannot be saved; pause it first");
    const token = `${this.incarnation} ${randomBytes(8).toString("hex")}`;
    const writtenPath = path.join(vmPaths(this.spec.directory).jail, "state");
    await fs.writeFile(writtenPath, Buffer.concat([Buffer.alloc(STATE_OFFSET), Buffer.from(token)]));
    if (savePath !== undefined) machine.memory.saveTo(this.spec, savePath);
    await sealState(writtenPath, statePath, { build: BUILD, shape });
    await fs.rm(writtenPath);
    machine.savedAs = { token, statePath };
    const ramPath = savePath ?? (memory.kind === "fresh" ? memory.path : memory.snapshot.ramPath);
    return { ramPath, statePath, build: BUILD, shape };
  }

  async console(): Promise<string> {
    return "";
  }

  async kill(): Promise<void> {
    await this.#machine.end("requested");
    await this.exited;
  }

  async dispose(): Promise<void> {
    assert(this.#machine.hasEnded, "a VM is disposed of only after its process ended");
    await fs.rm(this.spec.directory, { recursive: true, force: true });
  }

  #requireControl(): SimulatedMachine {
    if (this.#machine.hasEnded) throw new VmmError("vmm_exited_early", "the VM has ended");
    if (this.#machine.isHung) throw new VmmError("vmm_timeout", "the simulated VMM does not answer");
    return this.#machine;
  }
}
