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
import { systemErrorCode } from "../clone/fs-error.ts";
import { isOwnerAlive, isTempName, removeTree, type TempOwner, tempOwner } from "./atomic.ts";
import type { HomeLayout } from "./home.ts";
import { runAsTreeOwner } from "./tree-owner.ts";

/** One name in a swept directory. */
export interface SweepEntry {
  /** Directory that holds it, absolute. */
  directory: string;
  name: string;
}

/** Everything that is still wanted; what is left out is kept whole. */
export interface References {
  /** Names below `pool/sprites`. */
  sprites?: ReadonlySet<string>;
  /** Names below `pool/checkpoints`. */
  checkpoints?: ReadonlySet<string>;
  /** Names below `pool/templates`. */
  templates?: ReadonlySet<string>;
  /** Names below `sessions`. */
  sessions?: ReadonlySet<string>;
  /** Names below `pool/boot`. */
  bootSnapshots?: ReadonlySet<string>;
  /** Digests below `runtime/system`; the current one is always kept. */
  systems?: ReadonlySet<string>;
  /** Digests below `pool/images`. */
  images?: ReadonlySet<string>;
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
  /** Whether the maker of a temporary name is still at work. */
  isAlive: (owner: TempOwner) => boolean;
}

/** What may go, in the order of the entries. */
export function planSweep(facts: SweepFacts): SweepItem[] {
  const items: SweepItem[] = [];
  for (const { directory, name } of facts.entries) {
    const at = path.join(directory, name);
    if (isTempName(name)) {
      const owner = tempOwner(name);
      if (owner === undefined || !facts.isAlive(owner)) items.push({ path: at, reason: "unfinished" });
      continue;
    }
    if (!isReferenced(facts, directory, name)) items.push({ path: at, reason: "unreferenced" });
  }
  return items;
}

function isReferenced({ layout, references, currentSystem }: SweepFacts, directory: string, name: string): boolean {
  switch (directory) {
    case layout.sprites:
      return references.sprites?.has(name) ?? true;
    case layout.checkpoints:
      return references.checkpoints?.has(name) ?? true;
    case layout.templates:
      return references.templates?.has(name) ?? true;
    case layout.sessions:
      return references.sessions?.has(name) ?? true;
    case layout.bootSnapshots:
      return references.bootSnapshots?.has(name) ?? true;
    case layout.images:
      return references.images?.has(name) ?? true;
    case path.join(layout.runtime, "system"):
      return !/^[0-9a-f]{64}$/.test(name) || name === currentSystem || (references.systems?.has(name) ?? true);
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
    layout.checkpoints,
    layout.templates,
    layout.sessions,
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
  return planSweep({ layout, entries, references, currentSystem: current?.trim(), isAlive: isOwnerAlive });
}

/** Removes what a plan names. */
export async function runSweep(layout: HomeLayout, items: readonly SweepItem[]): Promise<void> {
  for (const item of items) {
    try {
      await removeTree(item.path, layout.root);
    } catch (error) {
      if (systemErrorCode(error) !== "EACCES" && systemErrorCode(error) !== "EPERM") throw error;
      // The tree of a build without root has owners that only a user namespace may touch.
      await runAsTreeOwner(["rm", "-rf", "--", item.path], { isRoot: false });
    }
  }
}

/** Removes what dead runs left half made; everything finished stays. */
export async function sweepUnfinished(layout: HomeLayout): Promise<SweepItem[]> {
  const items = await findSweep(layout, {});
  await runSweep(layout, items);
  return items;
}
