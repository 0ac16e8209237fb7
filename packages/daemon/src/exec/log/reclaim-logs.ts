/** Removes logs that no record names (LOG-10): what a daemon that died between two steps left. */
import fs from "node:fs/promises";
import path from "node:path";
import type { Logger } from "@sprited/base";

/** `keys`: every session that has a record. */
export async function reclaimLogs(root: string, keys: readonly { spriteId: string; id: string }[], logger: Logger): Promise<void> {
  const bySprite = new Map<string, Set<string>>();
  for (const { spriteId, id } of keys) bySprite.set(spriteId, (bySprite.get(spriteId) ?? new Set()).add(id));
  const gone: string[] = [];
  for (const spriteId of await namesIn(root)) {
    const ids = bySprite.get(spriteId);
    if (!ids) gone.push(path.join(root, spriteId));
    else for (const id of await namesIn(path.join(root, spriteId))) if (!ids.has(id)) gone.push(path.join(root, spriteId, id));
  }
  for (const directory of gone) await fs.rm(directory, { recursive: true, force: true });
  if (gone.length > 0) logger.info({ event: "exec.reclaim", count: gone.length }, "removed logs of sessions that are gone");
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await fs.readdir(directory);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return [];
    throw error;
  }
}
