/**
 * Finds what nothing needs any more: temporary names of work that died, and finished files that no record
 * refers to. The plan is pure and names a reason for each entry, so that it can be shown before
 * anything is removed.
 *
 * Invariants: a name is only removed when the caller has said completely what is referenced; work of
 * a living process is left alone; nothing outside the listed directories is looked at.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { ignore } from "@sprited/base";
import { isTempName, removeTree, tempOwner } from "./atomic.ts";
import type { HomeLayout } from "./home.ts";

/** One name in a swept directory. */
export interface SweepEntry {
  /** Directory that holds it, absolute. */
  directory: string;
  name: string;
}

/** Everything that is still wanted. */
export interface References {
  /** Names below `pool/sprites`. */
  sprites: ReadonlySet<string>;
  /** Names below `pool/boot`. */
  bootSnapshots: ReadonlySet<string>;
  /** Digests below `runtime/system`; the current one is always kept. */
  systems: ReadonlySet<string>;
  /** Digests of images that records refer to. `undefined`: keep every finished image. */
  images: ReadonlySet<string> | undefined;
}

export interface SweepItem {
  path: string;
  reason: "unfinished" | "unreferenced";
}

export interface SweepFacts {
  layout: HomeLayout;
  entries: readonly SweepEntry[];
  references: References;
  /** Digest of the system image in use. */
  currentSystem: string | undefined;
  /** Whether the process with this id runs, and is not this one. */
  isForeignAlive: (pid: number) => boolean;
}

/** What may go, in the order of the entries. */
export function planSweep(facts: SweepFacts): SweepItem[] {
  const items: SweepItem[] = [];
  for (const { directory, name } of facts.entries) {
    const at = path.join(directory, name);
    if (isTempName(name)) {
      const owner = tempOwner(name);
      if (owner === undefined || !facts.isForeignAlive(owner)) items.push({ path: at, reason: "unfinished" });
      continue;
    }
    if (!isReferenced(facts, directory, name)) items.push({ path: at, reason: "unreferenced" });
  }
  return items;
}

function isReferenced({ layout, references, currentSystem }: SweepFacts, directory: string, name: string): boolean {
  switch (directory) {
    case layout.sprites:
      return references.sprites.has(name);
    case layout.bootSnapshots:
      return references.bootSnapshots.has(name);
    case layout.images:
      return references.images === undefined || references.images.has(name);
    case path.join(layout.runtime, "system"):
      return !/^[0-9a-f]{64}$/.test(name) || name === currentSystem || references.systems.has(name);
    default:
      return true;
  }
}

/** Directories whose names are looked at. */
export function sweptDirectories(layout: HomeLayout): string[] {
  return [
    layout.root,
    layout.cache,
    path.join(layout.cache, "build"),
    path.join(layout.cache, "system-root"),
    layout.runtime,
    path.join(layout.runtime, "kernel"),
    path.join(layout.runtime, "system"),
    layout.pool,
    layout.images,
    layout.bootSnapshots,
    layout.sprites,
  ];
}

/** Looks at the home and plans. Removes nothing. */
export async function findSweep(layout: HomeLayout, references: References): Promise<SweepItem[]> {
  const entries: SweepEntry[] = [];
  const look = async (directory: string): Promise<string[]> => {
    const names = await fs.readdir(directory).catch(ignore("not there: nothing to sweep"));
    for (const name of names ?? []) entries.push({ directory, name });
    return names ?? [];
  };
  for (const directory of sweptDirectories(layout)) {
    const names = await look(directory);
    // Temporary files also lie beside the disks of a sprite and the sizes of an image.
    if (directory === layout.sprites || directory === layout.images) {
      for (const name of names) if (!isTempName(name)) await look(path.join(directory, name));
    }
  }
  const current = await fs.readFile(path.join(layout.runtime, "system", "current"), "utf8").catch(ignore("no system image yet"));
  return planSweep({ layout, entries, references, currentSystem: current?.trim(), isForeignAlive });
}

/** Removes what a plan names. */
export async function runSweep(layout: HomeLayout, items: readonly SweepItem[]): Promise<void> {
  for (const item of items) await removeTree(item.path, layout.root);
}

function isForeignAlive(pid: number): boolean {
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
