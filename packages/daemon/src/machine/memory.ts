/**
 * The saved memory of a sleeping sprite: what it is made of and where it lies.
 *
 * On disk: `pool/sprites/<id>/memory/{ram,state}`. `ram` is the guest's RAM, `state` the device
 * state. The record is kept with the sprite's state in the database; files without it are
 * worth nothing. A resume uses a memory up: the moment its VM may run, `state` is gone, because
 * what runs writes into `ram` and onto the disk and the memory never fits them again.
 */
import fs from "node:fs/promises";
import path from "node:path";
import type { MemorySnapshot, VmShape } from "@sprited/vmm";

/** What a saved memory can be resumed with; stored. */
export interface MemoryRecord {
  /** `VmmDriver.build` that saved it. */
  build: string;
  shape: VmShape;
  /** Size of the sprite's disk, GiB: part of the machine. */
  storageGb: number;
  /** With or without network cards: part of the machine. */
  network: boolean;
  /** Digest of the system image whose kernel and agent are in it. */
  system: string;
  /** Generation of the host-guest protocol that its agent speaks. */
  generation: number;
  agentVersion: string;
  /** Where the RAM begins in `ram`, bytes. */
  ramOffset: number;
  savedAtMs: number;
  /** True until it is resumed: it was put in place from another sprite or another time, and so are its connections. */
  inherited?: boolean | undefined;
}

export interface MemoryPaths {
  directory: string;
  ram: string;
  state: string;
}

export function memoryPaths(directory: string): MemoryPaths {
  return { directory, ram: path.join(directory, "ram"), state: path.join(directory, "state") };
}

/** The files of a memory as the VMM takes them. */
export function memorySnapshot(directory: string, record: MemoryRecord): MemorySnapshot {
  const { ram, state } = memoryPaths(directory);
  return { ramPath: ram, statePath: state, ramOffset: record.ramOffset, build: record.build, shape: record.shape };
}

/** Whether a saved memory was not used up: its device state is there. */
export async function isMemoryWhole(directory: string): Promise<boolean> {
  const { ram, state } = memoryPaths(directory);
  const stats = await Promise.all([ram, state].map((file) => fs.stat(file).catch(missing)));
  return stats.every((stat) => stat?.isFile() === true);
}

/** Removes a memory. Missing is fine. */
export async function removeMemory(directory: string): Promise<void> {
  await fs.rm(directory, { recursive: true, force: true });
}

function missing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") throw error;
}
