/**
 * What nothing refers to any more, found while the daemon runs, with a reason for each; removed
 * only when asked. `reclaim` does the same at start, when nothing is under way.
 *
 * Invariant: what was changed within the last hour is left alone: work under way makes its files
 * before its record.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { findSweep, type HomeLayout, type References, runSweep, type SweepItem } from "@sprited/disk";

/** Younger things may belong to work that has no record yet, ms. */
const YOUNG_MS = 3_600_000;
const BLOCK_BYTES = 512;

export interface GarbageItem {
  /** Below the home. */
  path: string;
  reason: string;
  /** Blocks it takes; those shared with others are not freed with it. */
  bytes: number;
}

export interface GcOptions {
  layout: HomeLayout;
  references(): Promise<References>;
}

const REASONS: Record<SweepItem["reason"], string> = {
  unfinished: "left by work that died",
  unreferenced: "nothing refers to it",
};

export class GarbageCollection {
  readonly #options: GcOptions;

  constructor(options: GcOptions) {
    this.#options = options;
  }

  /** Finds garbage, and removes it unless `dryRun`. Largest first. */
  async run(options: { dryRun: boolean; nowMs?: number }): Promise<GarbageItem[]> {
    const { layout, references } = this.#options;
    const nowMs = options.nowMs ?? Date.now();
    const old: { item: SweepItem; garbage: GarbageItem }[] = [];
    for (const item of await findSweep(layout, await references())) {
      const { bytes, changedMs } = await sizeOf(item.path);
      if (nowMs - changedMs < YOUNG_MS) continue;
      old.push({ item, garbage: { path: path.relative(layout.root, item.path), reason: REASONS[item.reason], bytes } });
    }
    if (!options.dryRun) {
      await runSweep(
        layout,
        old.map(({ item }) => item),
      );
    }
    return old.map(({ garbage }) => garbage).sort((one, other) => other.bytes - one.bytes);
  }
}

/** Allocated bytes of a file or tree, and when anything in it was last changed. */
async function sizeOf(root: string): Promise<{ bytes: number; changedMs: number }> {
  let [blocks, changedMs] = [0, 0];
  const add = async (file: string): Promise<void> => {
    const stat = await fs.lstat(file);
    blocks += stat.blocks;
    changedMs = Math.max(changedMs, stat.mtimeMs, stat.ctimeMs);
  };
  try {
    await add(root);
    if ((await fs.lstat(root)).isDirectory()) {
      for (const entry of await fs.readdir(root, { withFileTypes: true, recursive: true }))
        await add(path.join(entry.parentPath, entry.name));
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  return { bytes: blocks * BLOCK_BYTES, changedMs };
}
