/** Free space of a file system, asked for before work starts, so that nothing is left half done. */
import fs from "node:fs/promises";
import { DiskError } from "../errors.ts";
import { formatBytes } from "./plan.ts";

/** Bytes that an unprivileged program may still take where `directory` lies. */
export async function freeOf(directory: string): Promise<number> {
  const stat = await fs.statfs(directory);
  return stat.bavail * stat.bsize;
}

/** Throws `disk_full` with both numbers unless `bytes` fit. */
export function requireFree(free: number, bytes: number, what: { purpose: string; where: string; reserve: number }): void {
  if (free >= bytes) return;
  const reserve = what.reserve > 0 ? ` beside the reserve of ${formatBytes(what.reserve)}` : "";
  throw new DiskError(
    "disk_full",
    `${what.purpose} needs ${formatBytes(bytes)}, but only ${formatBytes(free)} are free in ${what.where}${reserve}: free some space and try again`,
  );
}
