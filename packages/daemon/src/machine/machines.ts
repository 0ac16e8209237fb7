/**
 * Starts, adopts and ends machines. Order of a start: slot → boot snapshot → VMM resume →
 * bootstrap of the agent over the boot port, with the link dialled beside it. Order of an end:
 * VMM process → directory → slot. The record that names all three was stored before (LIFE-4).
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, type Logger, Scope, withDeadline } from "@sprited/base";
import { DiskError } from "@sprited/disk";
import { BOOT_PORT, GUEST_GENERATION, LINK_PORT } from "@sprited/protocol/guest";
import { type NetworkSlot, type NetworkSlots, VmmError, type VmmDriver, type VmProcess } from "@sprited/vmm";
import { bootstrapGuest, type GuestCarrier, type GuestLink, openLink } from "../guest/index.ts";
import type { BootSnapshots } from "./boot-snapshot.ts";
import type { Machine, MachineRecord, Machines, MachineSpec } from "./machine.ts";
import { vmSpec } from "./vm-spec.ts";

export interface MachinesOptions {
  driver: VmmDriver;
  /** Undefined where the host has no taps: the link goes over a serial port and guests have no network. */
  slots: NetworkSlots | undefined;
  snapshots: BootSnapshots;
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
    start: (record, spec, call) => startMachine(options, record, spec, call?.signal),
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

async function startMachine(
  options: MachinesOptions,
  record: MachineRecord,
  spec: MachineSpec,
  signal: AbortSignal | undefined,
): Promise<Machine> {
  await using scope = new Scope(`machine ${record.incarnation}`);
  const slot = plannedSlots.get(record);
  if (slot) scope.defer("network slot", () => options.slots?.release(slot));
  const snapshot = await options.snapshots.get({ shape: spec.shape, storageGb: spec.storageGb }, signal ? { signal } : {});
  if (slot) await giveDisk(spec.diskPath, slot);
  return await withDeadline("starting the VM", { timeoutMs: options.startTimeoutMs, signal }, async (deadline) => {
    const process = await options.driver.start(
      vmSpec({
        incarnation: record.incarnation,
        directory: record.directory,
        shape: spec.shape,
        system: snapshot.system,
        diskPath: spec.diskPath,
        slot,
        memory: { kind: "snapshot", snapshot: snapshot.memory, mapping: "private" },
      }),
      { signal: deadline },
    );
    scope.defer("VM process", () => endProcess(process));
    const carrier = carrierOf(process, slot);
    const link = openLink(carrier, record, { signal: deadline, timeoutMs: options.startTimeoutMs });
    link.catch(ignore("awaited below"));
    await bootstrapGuest(
      carrier,
      {
        type: "bootstrap",
        generation: GUEST_GENERATION,
        incarnation: record.incarnation,
        key: Buffer.from(record.key).toString("base64"),
        time_ms: Date.now(),
        entropy: randomBytes(64).toString("base64"),
        identity: { hostname: spec.hostname, machine_id: spec.machineId, renew: spec.renewIdentity },
        environment: spec.environment,
        root_serial: "sprite",
      },
      { signal: deadline, timeoutMs: options.startTimeoutMs },
    );
    return runningMachine(options, { record, process, slot, firstLink: await link, scope: scope.move() });
  });
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
  const process = await options.driver.adopt(record.directory);
  const scope = new Scope(`machine ${record.incarnation}`);
  if (slot) scope.defer("network slot", () => options.slots?.release(slot));
  if (!process) {
    await scope[Symbol.asyncDispose]();
    return undefined;
  }
  scope.defer("VM process", () => endProcess(process));
  return runningMachine(options, { record, process, slot, firstLink: undefined, scope });
}

async function endProcess(process: VmProcess): Promise<void> {
  await process.kill();
  await process.dispose();
}

function carrierOf(process: VmProcess, slot: NetworkSlot | undefined): GuestCarrier {
  return {
    openBootPort: (call) => process.openPort(BOOT_PORT, call),
    link: slot ? { kind: "tcp", ...slot.agentAddress } : { kind: "serial", open: (call) => process.openPort(LINK_PORT, call) },
  };
}

interface Running {
  record: MachineRecord;
  process: VmProcess;
  slot: NetworkSlot | undefined;
  firstLink: GuestLink | undefined;
  /** Everything the machine holds; given back when it ends. */
  scope: Scope;
}

function runningMachine(options: MachinesOptions, { record, process, slot, firstLink, scope }: Running): Machine {
  const carrier = carrierOf(process, slot);
  let gone = false;
  void process.exited.then(() => {
    gone = true;
  });
  let current: GuestLink | undefined = firstLink;
  let dialling: Promise<GuestLink> | undefined;
  let ended: Promise<void> | undefined;
  const watch = (link: GuestLink): void => {
    void link.closed.then(() => {
      if (current === link) current = undefined;
    });
  };
  if (firstLink) watch(firstLink);

  const link = async (): Promise<GuestLink> => {
    if (gone || ended) throw new VmmError("vmm_exited_early", "the VM has ended");
    if (current) return current;
    dialling ??= openLink(carrier, record, { timeoutMs: options.linkTimeoutMs })
      .then((opened) => {
        current = opened;
        watch(opened);
        return opened;
      })
      .finally(() => {
        dialling = undefined;
      });
    return await dialling;
  };
  const end = async (): Promise<void> => {
    await current?.[Symbol.asyncDispose]();
    await scope[Symbol.asyncDispose]();
  };
  return {
    incarnation: record.incarnation,
    pid: process.pid,
    exited: process.exited,
    link: (call) => withDeadline("the guest's agent", { timeoutMs: options.linkTimeoutMs, signal: call?.signal }, link),
    stop: async ({ graceMs }) => {
      try {
        await withDeadline("the orderly stop", { timeoutMs: graceMs }, async (signal) => {
          const open = await link();
          await open.stop(Math.floor(graceMs / 2), { signal, timeoutMs: graceMs });
        });
      } catch (error) {
        options.logger.warn(
          { event: "vm.stop", outcome: "forced", incarnation: record.incarnation, err: error },
          "no orderly stop, killing the VM",
        );
      }
      await (ended ??= end());
    },
    detach: async () => {
      gone = true;
      await current?.[Symbol.asyncDispose]();
    },
    kill: async () => {
      await (ended ??= end());
    },
  };
}
