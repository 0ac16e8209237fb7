/**
 * Snapshots that can be resumed once: what runs writes into their RAM and onto the disk that
 * belongs to it, so a second resume would go on from a past that its disk has left.
 *
 * Invariant: while the device state lies at its path no vCPU has run from it, whenever the program
 * or the host ended. It is moved away, durably, before QEMU is told to load it, and moved back
 * only when it is certain that QEMU was never told.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { ignore } from "@sprited/base";
import type { VmSpec } from "../vmm.ts";

/** Where the device state of a snapshot that is being resumed lies. */
function usedPath(statePath: string): string {
  return `${statePath}.used`;
}

/** The device state of a spec that can be resumed once; undefined for any other. */
export function onceState(spec: VmSpec): string | undefined {
  const { memory } = spec;
  return memory.kind === "snapshot" && memory.once === true ? memory.snapshot.statePath : undefined;
}

/**
 * From now on the snapshot counts as resumed; `connect` goes on beside the flush. Call when QEMU has
 * the state open and was told nothing: when either fails, the snapshot is as it was.
 */
export async function usedUp(statePath: string | undefined, connect: () => Promise<unknown>): Promise<void> {
  if (statePath === undefined) return void (await connect());
  const [used, connected] = await Promise.allSettled([useUp(statePath), connect()]);
  if (used.status === "fulfilled" && connected.status === "fulfilled") return;
  await giveBack(statePath);
  throw used.status === "rejected" ? used.reason : (connected as PromiseRejectedResult).reason;
}

/** The move alone; see `usedUp`. */
export async function useUp(statePath: string): Promise<void> {
  await fs.rename(statePath, usedPath(statePath));
  await syncDirectory(statePath);
}

/** Takes `useUp` back. Missing is fine: it had not come to it. */
export async function giveBack(statePath: string): Promise<void> {
  await fs.rename(usedPath(statePath), statePath).catch(ignore("it was never moved away"));
}

/** The VM runs: nothing needs the state any more. */
export async function forgetUsed(statePath: string): Promise<void> {
  await fs.rm(usedPath(statePath), { force: true });
}

async function syncDirectory(file: string): Promise<void> {
  await using directory = await fs.open(path.dirname(file), "r");
  await directory.sync();
}
