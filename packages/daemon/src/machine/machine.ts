/**
 * A machine: one VM run with everything it needs on this host (network slot, directory, VMM
 * process, guest link), acquired and given back together. Knows nothing of names, owners or
 * states; the sprite's driver decides when one exists.
 */
import type { VmExit, VmShape } from "@sprited/vmm";
import type { GuestLink } from "../guest/index.ts";
import type { MemoryRecord } from "./memory.ts";

/** What must be known to find a machine again after a daemon restart. Stored before it starts (LIFE-4). */
export interface MachineRecord {
  incarnation: string;
  spriteId: string;
  /** Directory of sockets, pid file and spec. */
  directory: string;
  /** Network slot; undefined where the host has no taps. */
  slotIndex: number | undefined;
  /** Link key, 32 bytes. Secret. */
  key: Uint8Array;
  createdAtMs: number;
}

export interface MachineSpec {
  shape: VmShape;
  storageGb: number;
  diskPath: string;
  /** Takes the files of a saved memory (`memoryPaths`). */
  memoryDirectory: string;
  hostname: string;
  /** 32 hex digits. */
  machineId: string;
  /** First wake of this identity: machine id and host keys on the disk are made anew. */
  renewIdentity: boolean;
  environment: Record<string, string>;
}

export interface Machine {
  readonly incarnation: string;
  readonly pid: number;
  /** Resolves when the VM process is gone. Never rejects. */
  readonly exited: Promise<VmExit>;
  /** The open link, dialled anew when the last one broke. Throws `GuestError`, or `VmmError` when the VM is gone. */
  link(options?: { signal?: AbortSignal | undefined }): Promise<GuestLink>;
  /** Stops the vCPUs; the memory stays. Idempotent. */
  pause(): Promise<void>;
  /**
   * Lets the vCPUs run and resolves when the guest has the time of now, has confirmed fresh
   * randomness and has answered on the link. Throws when it does not: the machine is of no use then.
   * `memory`: the saved one that its VM began with, when no bootstrap may have reached the guest since.
   */
  resume(spec: MachineSpec, options: { signal?: AbortSignal | undefined; memory?: MemoryRecord | undefined }): Promise<void>;
  /** Writes the memory of a paused machine into its directory; durable when it resolves. The machine may go on afterwards. */
  saveMemory(spec: MachineSpec): Promise<MemoryRecord>;
  /** Removes what `saveMemory` wrote: the machine goes on, and its memory with it. */
  forgetSaved(): Promise<void>;
  /** Ends the inner environment in order, then the VM (LIFE-7). Never throws for a silent guest. */
  stop(options: { graceMs: number }): Promise<void>;
  /** Closes the link and lets go; the VM runs on. For the end of the daemon. */
  detach(): Promise<void>;
  /** Ends the VM at once and gives everything back. Idempotent. */
  kill(): Promise<void>;
}

export interface Machines {
  /** Reserves what a machine needs; nothing runs yet. */
  plan(spriteId: string, options?: { signal?: AbortSignal | undefined }): Promise<MachineRecord>;
  /** Gives back what `plan` reserved for a machine that is not started after all. */
  forget(record: MachineRecord): Promise<void>;
  /**
   * Starts a planned machine and resolves when its agent has answered: with a saved memory that
   * goes on, else from the boot snapshot. On failure everything is given back, except that a
   * memory whose VM may have run is used up (`isMemoryWhole`).
   */
  start(
    record: MachineRecord,
    spec: MachineSpec,
    options?: { signal?: AbortSignal | undefined; memory?: MemoryRecord | undefined },
  ): Promise<Machine>;
  /** Why a saved memory cannot be resumed here and now, as a clause for people; undefined when it can. */
  memoryProblem(memory: MemoryRecord, spec: MachineSpec): Promise<string | undefined>;
  /** Finds a running machine again; undefined when it is gone, with everything given back. */
  adopt(record: MachineRecord): Promise<Machine | undefined>;
}
