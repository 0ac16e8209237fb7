/**
 * Files and directories that appear whole or not at all. A name in the making carries
 * `TEMP_MARK`, so that a sweep can tell it from finished work after a crash.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { DiskError } from "../errors.ts";

/** Part of every temporary name. */
export const TEMP_MARK = ".making-";

/** Tells this run of the program from an earlier one with the same process id. */
const RUN = randomBytes(4).toString("hex");

/** Who makes something under a temporary name. */
export interface TempOwner {
  pid: number;
  run: string;
}

/** A new temporary name beside `target`, hidden and unique. */
export function tempBeside(target: string): string {
  return path.join(path.dirname(target), `.${path.basename(target)}${TEMP_MARK}${process.pid}-${RUN}-${randomBytes(4).toString("hex")}`);
}

/** Whether a file name was made by `tempBeside`. */
export function isTempName(name: string): boolean {
  return name.startsWith(".") && name.includes(TEMP_MARK);
}

/** Owner named by a temporary name; undefined for other names. */
export function tempOwner(name: string): TempOwner | undefined {
  const match = /\.making-(\d+)-([0-9a-f]{8})-[0-9a-f]{8}(?:\.clone)?$/.exec(name);
  return match?.[2] === undefined ? undefined : { pid: Number(match[1]), run: match[2] };
}

/** Whether the owner is still at work: this run, or another process that lives. */
export function isOwnerAlive(owner: TempOwner): boolean {
  if (owner.run === RUN) return true;
  if (owner.pid === process.pid) return false;
  try {
    process.kill(owner.pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
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
 * removal of this package: `target` must be absolute and lie inside `within`, and nothing may be
 * mounted at or below it, since removing would go on in there. Throws `disk_io`.
 */
export async function removeTree(target: string, within: string): Promise<void> {
  const relative = path.relative(within, target);
  if (!path.isAbsolute(target) || relative === "" || relative.startsWith("..") || path.isAbsolute(relative)) {
    throw new Error(`refusing to remove ${target}: not inside ${within}`);
  }
  const mounted = mountBelow(await fs.readFile("/proc/self/mountinfo", "utf8"), target);
  if (mounted !== undefined) throw new DiskError("disk_io", `refusing to remove ${target}: ${mounted} is mounted; unmount it first`);
  await fs.rm(target, { recursive: true, force: true, maxRetries: 3 });
}

/** The first mount point at or below `directory`; undefined when there is none. */
export function mountBelow(mountinfo: string, directory: string): string | undefined {
  for (const line of mountinfo.split("\n")) {
    const point = line.split(" ")[4]?.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    if (point === directory || point?.startsWith(`${directory}/`)) return point;
  }
  return undefined;
}
