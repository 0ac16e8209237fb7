/**
 * Files and directories that appear whole or not at all. A name in the making carries
 * `TEMP_MARK`, so that a sweep can tell it from finished work after a crash.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";

/** Part of every temporary name. */
export const TEMP_MARK = ".making-";

/** A new temporary name beside `target`, hidden and unique. */
export function tempBeside(target: string): string {
  return path.join(path.dirname(target), `.${path.basename(target)}${TEMP_MARK}${process.pid}-${randomBytes(4).toString("hex")}`);
}

/** Whether a file name was made by `tempBeside`. */
export function isTempName(name: string): boolean {
  return name.startsWith(".") && name.includes(TEMP_MARK);
}

/** Process id inside a temporary name; undefined for other names. */
export function tempOwner(name: string): number | undefined {
  const match = /\.making-(\d+)-[0-9a-f]{8}$/.exec(name);
  return match ? Number(match[1]) : undefined;
}

/** Writes a small file: temporary name, fsync, rename, fsync of the directory. */
export async function writeFileAtomic(target: string, content: string | Uint8Array, mode = 0o644): Promise<void> {
  const temp = tempBeside(target);
  try {
    const file = await fs.open(temp, "wx", mode);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await fs.rename(temp, target);
  } catch (error) {
    await fs.rm(temp, { force: true });
    throw error;
  }
  await syncDirectory(path.dirname(target));
}

/** Makes the names in a directory durable. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await fs.open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes a file's content durable. */
export async function syncFile(file: string): Promise<void> {
  const handle = await fs.open(file, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Removes a file or a whole directory; nothing happens when it is not there. The only recursive
 * removal of this package: `target` must be absolute and lie inside `within`.
 */
export async function removeTree(target: string, within: string): Promise<void> {
  const relative = path.relative(within, target);
  if (!path.isAbsolute(target) || relative === "" || relative.startsWith("..") || path.isAbsolute(relative)) {
    throw new Error(`refusing to remove ${target}: not inside ${within}`);
  }
  await fs.rm(target, { recursive: true, force: true, maxRetries: 3 });
}
