/**
 * Takes back what a dead daemon left that no record names (LIFE-10). Runs once at start, after
 * every record's machine was adopted or settled, in this order: VM processes first, because
 * they hold the rest; then directories of disks and unfinished snapshots.
 */
import fs from "node:fs/promises";
import path from "node:path";
import type { Logger } from "@sprited/base";
import type { VmmDriver } from "@sprited/vmm";

export interface ReclaimOptions {
  driver: VmmDriver;
  runDirectory: string;
  spritesDirectory: string;
  bootSnapshotsDirectory: string;
  /** Incarnations whose machines live. */
  incarnations: ReadonlySet<string>;
  /** Sprites that have a record. */
  spriteIds: ReadonlySet<string>;
  logger: Logger;
}

export interface Reclaimed {
  vms: string[];
  disks: string[];
  snapshots: string[];
}

export async function reclaim(options: ReclaimOptions): Promise<Reclaimed> {
  const reclaimed: Reclaimed = { vms: [], disks: [], snapshots: [] };
  for (const name of orphans(await entries(options.runDirectory), options.incarnations)) {
    const directory = path.join(options.runDirectory, name);
    const process = await options.driver.adopt(directory);
    await process?.kill();
    await process?.dispose();
    await fs.rm(directory, { recursive: true, force: true });
    reclaimed.vms.push(name);
  }
  for (const name of orphans(await entries(options.spritesDirectory), options.spriteIds)) {
    await fs.rm(path.join(options.spritesDirectory, name), { recursive: true, force: true });
    reclaimed.disks.push(name);
  }
  for (const name of await entries(options.bootSnapshotsDirectory)) {
    if (!name.endsWith(".tmp")) continue;
    await fs.rm(path.join(options.bootSnapshotsDirectory, name), { recursive: true, force: true });
    reclaimed.snapshots.push(name);
  }
  if (reclaimed.vms.length + reclaimed.disks.length + reclaimed.snapshots.length > 0) {
    options.logger.warn({ event: "reclaim", outcome: "ok", ...reclaimed }, "took back what an earlier run left");
  }
  return reclaimed;
}

/** Names that nothing owns. Pure. */
export function orphans(names: readonly string[], owned: ReadonlySet<string>): string[] {
  return names.filter((name) => !owned.has(name));
}

async function entries(directory: string): Promise<string[]> {
  try {
    return await fs.readdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
