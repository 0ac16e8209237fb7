/**
 * The pool as one sparse XFS file on a loop device. The file appears under its name only when it is
 * formatted, so a half-made one is recognized by its temporary name and made anew.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, run, RunError, Scope } from "@sprited/base";
import { asDiskError } from "../clone/fs-error.ts";
import { DiskError } from "../errors.ts";
import { isTempName, syncDirectory, syncFile, tempBeside } from "../layout/atomic.ts";

/**
 * `discard` gives the blocks of deleted sprites back to the disk below; without it the file only grows.
 * Devices, set-uid files and programs have no business in the pool.
 */
const MOUNT_OPTIONS = "nodev,nosuid,noexec,noatime,discard";

/** Makes and formats the pool file. Throws `disk_pool`. */
export async function createPoolFile(file: string, bytes: number, signal: AbortSignal | undefined): Promise<void> {
  await removeHalfMade(file);
  const temp = tempBeside(file);
  try {
    await fs.writeFile(temp, "", { flag: "wx", mode: 0o600 });
    await fs.truncate(temp, bytes);
    await run("mkfs.xfs", ["-q", "-K", "-m", "reflink=1", temp], { signal });
    await syncFile(temp);
    await fs.rename(temp, file);
    await syncDirectory(path.dirname(file));
  } catch (error) {
    await fs.rm(temp, { force: true });
    throw poolError("making the pool file", error);
  }
}

async function removeHalfMade(file: string): Promise<void> {
  const directory = path.dirname(file);
  for (const name of await fs.readdir(directory)) {
    if (isTempName(name) && name.startsWith(`.${path.basename(file)}`)) await fs.rm(path.join(directory, name), { force: true });
  }
}

/** Attaches the pool file and mounts it. On failure nothing stays attached. Throws `disk_pool`. */
export async function mountPoolFile(file: string, directory: string, signal: AbortSignal | undefined): Promise<void> {
  await using scope = new Scope("mounting the pool");
  try {
    // One that a killed start left attached is taken again.
    const { stdout } = await run("losetup", ["--find", "--show", "--nooverlap", file], { signal });
    const device = stdout.trim();
    // Once mounted, this marks the device to go away with the mount; otherwise it goes away now.
    scope.defer("the loop device", async () => void (await run("losetup", ["--detach", device])));
    // Without direct I/O every page of a disk is cached twice, in the pool and below it.
    await run("losetup", ["--direct-io=on", device], { signal }).catch(
      ignore("the disk below cannot: more memory is used, all else is the same"),
    );
    await run("mount", ["-t", "xfs", "-o", MOUNT_OPTIONS, device, directory], { signal });
  } catch (error) {
    throw poolError("mounting the pool file", error);
  }
}

/** Grows the file and the file system in it while mounted. Throws `disk_pool`. */
export async function growPool(file: string, device: string, directory: string, bytes: number): Promise<void> {
  try {
    await fs.truncate(file, bytes);
    await run("losetup", ["--set-capacity", device]);
    await run("xfs_growfs", ["-d", directory]);
  } catch (error) {
    throw poolError("growing the pool file", error);
  }
}

/** File behind a loop device; undefined for other devices. */
export async function backingFile(device: string): Promise<string | undefined> {
  if (!/^\/dev\/loop\d+$/.test(device)) return undefined;
  try {
    return (await fs.readFile(`/sys/block/${path.basename(device)}/loop/backing_file`, "utf8")).trimEnd();
  } catch {
    return undefined;
  }
}

function poolError(attempted: string, error: unknown): unknown {
  if (error instanceof RunError) {
    return new DiskError(
      "disk_pool",
      `${attempted} failed (${error.program}): are the packages xfsprogs and mount installed, and may this machine use loop devices?`,
      { cause: error },
    );
  }
  return asDiskError(error, attempted);
}
