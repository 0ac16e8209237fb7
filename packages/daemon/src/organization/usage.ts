/** How much of the host's disk an organization takes. Looked up only where a quota asks for it. */
import fs from "node:fs/promises";
import path from "node:path";
import type { HomeLayout } from "@sprited/disk";

const BLOCK_BYTES = 512;
const GB = 1_000_000_000;

/**
 * Blocks allocated to the files of these sprites: disk, memory, checkpoints, templates, logs, GB.
 * A block that several files share counts for each. What vanishes meanwhile counts nothing.
 */
export async function allocatedGb(
  layout: HomeLayout,
  owners: { spriteIds: readonly string[]; templateIds: readonly string[] },
): Promise<number> {
  const roots = [
    ...owners.spriteIds.flatMap((id) => [layout.sprites, layout.checkpoints, layout.sessions].map((directory) => path.join(directory, id))),
    ...owners.templateIds.map((id) => path.join(layout.templates, id)),
  ];
  let blocks = 0;
  for (const root of roots) blocks += await blocksIn(root);
  return (blocks * BLOCK_BYTES) / GB;
}

async function blocksIn(directory: string): Promise<number> {
  let blocks = 0;
  for (const entry of await orElse(fs.readdir(directory, { withFileTypes: true, recursive: true }), [])) {
    if (entry.isFile())
      blocks += (await orElse<{ blocks: number }>(fs.stat(path.join(entry.parentPath, entry.name)), { blocks: 0 })).blocks;
  }
  return blocks;
}

async function orElse<T>(work: Promise<T>, nothing: T): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return nothing;
    throw error;
  }
}
