/**
 * Takes back what a dead daemon left that no record names (LIFE-10). Runs once at start, after
 * every record's machine was adopted or settled, in this order: VM processes first, because
 * they hold the rest; then disks without a record, unfinished files, and boot snapshots and
 * system images that no VM and no new build uses.
 */
import fs from "node:fs/promises";
import path from "node:path";
import type { Logger } from "@sprited/base";
import { findSweep, type HomeLayout, runSweep } from "@sprited/disk";
import type { VmmDriver } from "@sprited/vmm";

export interface ReclaimOptions {
  driver: VmmDriver;
  layout: HomeLayout;
  /** Incarnations whose machines live. */
  incarnations: ReadonlySet<string>;
  /** Sprites that have a record. */
  spriteIds: ReadonlySet<string>;
  /** Boot snapshots that can still be resumed here; undefined keeps all. */
  bootSnapshots: ReadonlySet<string>;
  /** Digests of the system images that new VMs and saved memories need. */
  systems: ReadonlySet<string>;
  logger: Logger;
}

export interface Reclaimed {
  /** Incarnations of VMs nobody owned. */
  vms: string[];
  /** Paths that were removed. */
  files: string[];
}

export async function reclaim(options: ReclaimOptions): Promise<Reclaimed> {
  const { driver, layout, logger } = options;
  const vms = orphans(await entries(layout.run), options.incarnations);
  for (const name of vms) {
    const directory = path.join(layout.run, name);
    const process = await driver.adopt(directory);
    await process?.kill();
    await process?.dispose();
    await fs.rm(directory, { recursive: true, force: true });
  }
  const items = await findSweep(layout, {
    sprites: options.spriteIds,
    checkpoints: options.spriteIds,
    // A VM that lives maps the files it was resumed from; as long as there is one, nothing of theirs goes.
    ...(options.incarnations.size === 0 ? { bootSnapshots: options.bootSnapshots, systems: options.systems } : {}),
  });
  await runSweep(layout, items);
  const reclaimed: Reclaimed = { vms, files: items.map((item) => item.path) };
  if (reclaimed.vms.length + reclaimed.files.length > 0) {
    logger.warn({ event: "reclaim", outcome: "ok", ...reclaimed }, "took back what an earlier run left");
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
