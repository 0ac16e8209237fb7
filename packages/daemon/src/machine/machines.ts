/**
 * Starts, adopts and ends machines. Order of a start: slot → boot snapshot → VMM resume →
 * bootstrap of the agent over the boot port, with the link dialled beside it. Order of an end:
 * VMM process → directory → slot. The record that names all three was stored before (LIFE-4).
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, type Logger, Scope, withDeadline } from "@sprited/base";
import { DiskError, type DiskPool, type SystemImage } from "@sprited/disk";
import { GUEST_GENERATION, GUEST_GENERATIONS_SPOKEN } from "@sprited/protocol/guest";
import { type NetworkSlot, type NetworkSlots, VmmError, type VmmDriver, type VmProcess, type VmSpec } from "@sprited/vmm";
import { bootstrapGuest, openLink } from "../guest/index.ts";
import type { BootSnapshots } from "./boot-snapshot.ts";
import { type GuestFacts, readGuestFacts, writeGuestFacts } from "./guest-facts.ts";
import type { Machine, MachineRecord, Machines, MachineSpec } from "./machine.ts";
import { memoryPaths, memorySnapshot, type MemoryRecord } from "./memory.ts";
import { bootstrapOf, carrierOf, RunningMachine, whileAlive } from "./running.ts";
import { vmSpec } from "./vm-spec.ts";

export interface MachinesOptions {
  driver: VmmDriver;
  /** Undefined where the host has no taps: the link goes over a serial port and guests have no network. */
  slots: NetworkSlots | undefined;
  snapshots: BootSnapshots;
  pool: DiskPool;
  /** The system image of a digest; undefined when it is not there any more. */
  findSystem(digest: string): Promise<SystemImage | undefined>;
  /** Directory that holds one directory per live VM. */
  runDirectory: string;
  /** From "resume" to the agent's answer, ms. */
  startTimeoutMs: number;
  /** One dial of the link, ms. */
  linkTimeoutMs: number;
  logger: Logger;
}

export function openMachines(options: MachinesOptions): Machines {
  return {
    plan: (spriteId, call) => planMachine(options, spriteId, call?.signal),
    forget: (record) => forgetMachine(options, record),
    start: (record, spec, call) => startMachine(options, record, spec, call ?? {}),
    memoryProblem: (memory, spec) => memoryProblem(options, memory, spec),
    adopt: (record) => adoptMachine(options, record),
  };
}

/** Slots by incarnation: taken at `plan`, needed at `start`. Lost with the daemon, then adopted by index. */
const plannedSlots = new WeakMap<MachineRecord, NetworkSlot>();

async function planMachine(options: MachinesOptions, spriteId: string, signal: AbortSignal | undefined): Promise<MachineRecord> {
  const slot = await options.slots?.acquire(signal ? { signal } : {});
  const incarnation = randomBytes(6).toString("hex");
  const record: MachineRecord = {
    incarnation,
    spriteId,
    directory: path.join(options.runDirectory, incarnation),
    slotIndex: slot?.index,
    key: randomBytes(32),
    createdAtMs: Date.now(),
  };
  if (slot) plannedSlots.set(record, slot);
  return record;
}

async function forgetMachine(options: MachinesOptions, record: MachineRecord): Promise<void> {
  const slot = plannedSlots.get(record);
  plannedSlots.delete(record);
  if (slot) await options.slots?.release(slot);
}

async function startMachine(
  options: MachinesOptions,
  record: MachineRecord,
  spec: MachineSpec,
  call: { signal?: AbortSignal | undefined; memory?: MemoryRecord | undefined },
): Promise<Machine> {
  await using scope = new Scope(`machine ${record.incarnation}`);
  const { signal, memory } = call;
  const slot = plannedSlots.get(record);
  if (slot) scope.defer("network slot", () => options.slots?.release(slot));
  const source = memory ? await savedSource(options, spec, memory, signal) : await bootSource(options, spec, { signal, slot });
  if (slot) await giveDisk(spec.diskPath, slot);
  return await withDeadline("starting the VM", { timeoutMs: options.startTimeoutMs, signal }, async (deadline) => {
    scope.defer("VM directory", () => fs.rm(record.directory, { recursive: true, force: true }));
    await writeGuestFacts(record.directory, source.facts);
    const process = await options.driver.start(
      vmSpec({
        incarnation: record.incarnation,
        directory: record.directory,
        shape: spec.shape,
        system: source.system,
        diskPath: spec.diskPath,
        slot,
        memory: source.memory,
      }),
      { signal: deadline },
    );
    scope.defer("VM process", () => endProcess(process));
    const carrier = carrierOf(process, slot);
    const firstLink = await whileAlive(process, deadline, async (alive) => {
      const call = { signal: alive, timeoutMs: options.startTimeoutMs };
      const link = openLink(carrier, record, call);
      link.catch(ignore("awaited below"));
      await bootstrapGuest(carrier, bootstrapOf(record, spec, { facts: source.facts, memory }), call);
      return await link;
    });
    return new RunningMachine(options, { record, process, slot, facts: source.facts, firstLink, scope: scope.move() });
  });
}

/** What a VM's memory begins as. */
interface MemorySource {
  memory: VmSpec["memory"];
  system: SystemImage;
  facts: GuestFacts;
}

/** The boot snapshot that all share; the file that would take this VM's own memory is made ready. */
async function bootSource(
  options: MachinesOptions,
  spec: MachineSpec,
  call: { signal: AbortSignal | undefined; slot: NetworkSlot | undefined },
): Promise<MemorySource> {
  const { signal, slot } = call;
  const snapshot = await options.snapshots.get({ shape: spec.shape, storageGb: spec.storageGb }, signal ? { signal } : {});
  const { directory, ram } = memoryPaths(spec.memoryDirectory);
  await fs.mkdir(directory, { recursive: true, mode: 0o711 });
  const origin = { system: snapshot.system, facts: { system: snapshot.system.digest, generation: GUEST_GENERATION } };
  if (!options.driver.savesPrivateMemory) {
    // Dearer: nothing of the RAM is shared with other VMs, and all of it is read from the disk anew.
    await options.pool.clone(snapshot.memory.ramPath, ram, signal ? { signal } : {});
    return { ...origin, memory: { kind: "snapshot", snapshot: { ...snapshot.memory, ramPath: ram }, mapping: "shared" } };
  }
  await using file = await fs.open(ram, "w", 0o600);
  if (slot) await file.chown(slot.uid, slot.gid);
  return { ...origin, memory: { kind: "snapshot", snapshot: snapshot.memory, mapping: "private", savePath: ram } };
}

async function savedSource(
  options: MachinesOptions,
  spec: MachineSpec,
  memory: MemoryRecord,
  signal: AbortSignal | undefined,
): Promise<MemorySource> {
  const system = await options.findSystem(memory.system);
  if (!system) throw new VmmError("vmm_snapshot_unusable", "the system image of the saved memory is gone");
  // What runs fills its RAM file's holes; a page that finds no room on the disk would end the VM.
  await options.pool.reserve(memoryPaths(spec.memoryDirectory).ram, "the sprite's memory", { signal });
  return {
    memory: { kind: "snapshot", snapshot: memorySnapshot(spec.memoryDirectory, memory), mapping: "shared", once: true },
    system,
    facts: { system: memory.system, generation: memory.generation },
  };
}

async function memoryProblem(options: MachinesOptions, memory: MemoryRecord, spec: MachineSpec): Promise<string | undefined> {
  const { shape } = spec;
  if (memory.build !== options.driver.build) return "it was saved by another build of the VMM";
  if (memory.shape.cpus !== shape.cpus || memory.shape.memoryMib !== shape.memoryMib || memory.storageGb !== spec.storageGb)
    return "the sprite's size was changed";
  if (memory.network !== (options.slots !== undefined)) return "the host's network was set up or taken away";
  if (!GUEST_GENERATIONS_SPOKEN.includes(memory.generation)) return "its agent is too old";
  return (await options.findSystem(memory.system)) ? undefined : "the system image it runs on is gone";
}

/** Lets the VMM's user open the disk. Throws `disk_damaged` when it is gone. */
async function giveDisk(diskPath: string, slot: NetworkSlot): Promise<void> {
  try {
    await fs.chown(diskPath, slot.uid, slot.gid);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ENOENT") throw cause;
    throw new DiskError("disk_damaged", "the sprite's disk is missing", { cause });
  }
}

async function adoptMachine(options: MachinesOptions, record: MachineRecord): Promise<Machine | undefined> {
  const slot = record.slotIndex === undefined ? undefined : await options.slots?.adopt(record.slotIndex);
  const facts = await readGuestFacts(record.directory);
  const process = await options.driver.adopt(record.directory);
  const scope = new Scope(`machine ${record.incarnation}`);
  if (slot) scope.defer("network slot", () => options.slots?.release(slot));
  if (!process) {
    await scope[Symbol.asyncDispose]();
    return undefined;
  }
  scope.defer("VM process", () => endProcess(process));
  return new RunningMachine(options, { record, process, slot, facts, firstLink: undefined, scope });
}

async function endProcess(process: VmProcess): Promise<void> {
  await process.kill();
  await process.dispose();
}
