/** The block device of the sprite's disk: found by serial, judged by its superblock before it is mounted. */
import fs from "node:fs";
import path from "node:path";
import { mount, MS, syncFileSystem, SystemCallError, umount } from "../sys/libc.ts";

const SUPERBLOCK_OFFSET = 1024;
const SUPERBLOCK_BYTES = 1024;
const EXT4_MAGIC = 0xef53;

/** Where the disk is mounted in the VM's root. */
export const DISK_MOUNT = "/run/sprited/root";

/** Device file of the block device with that serial. Throws when there is none. */
export function findDisk(serial: string): string {
  for (const name of fs.readdirSync("/sys/block")) {
    const file = path.join("/sys/block", name, "serial");
    if (fs.existsSync(file) && fs.readFileSync(file, "utf8").trim() === serial) return path.join("/dev", name);
  }
  throw new Error(`there is no disk with the serial ${serial}`);
}

/**
 * What must happen before an ext4 file system may be mounted, from its superblock: nothing (a
 * journal that was not replayed is the mount's business), a repair, or it is none at all.
 */
export function judgeSuperblock(block: Uint8Array): "mountable" | "repair" | "foreign" {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  if (view.getUint16(0x38, true) !== EXT4_MAGIC) return "foreign";
  const state = view.getUint16(0x3a, true);
  const VALID = 1;
  const ERROR = 2;
  const HAS_JOURNAL = 4;
  const hasJournal = (view.getUint32(0x5c, true) & HAS_JOURNAL) !== 0;
  if ((state & ERROR) !== 0) return "repair";
  return (state & VALID) !== 0 || hasJournal ? "mountable" : "repair";
}

/** Mounts the disk, repairing it first where needed. `repair` runs the file system check on a device. */
export async function mountDisk(device: string, repair: (device: string) => Promise<void>): Promise<void> {
  const verdict = judgeSuperblock(readSuperblock(device));
  if (verdict === "foreign") throw new Error("the disk holds no ext4 file system");
  if (verdict === "repair") await repair(device);
  fs.mkdirSync(DISK_MOUNT, { recursive: true });
  try {
    mountExt4(device);
  } catch (error) {
    if (!(error instanceof SystemCallError)) throw error;
    await repair(device);
    mountExt4(device);
  }
}

function mountExt4(device: string): void {
  mount({ source: device, target: DISK_MOUNT, type: "ext4", flags: MS.NOATIME, data: "discard,errors=remount-ro" });
}

/** Writes everything to the disk and takes it out of the VM's root. */
export function unmountDisk(): void {
  syncDisk();
  umount(DISK_MOUNT);
}

/** Writes everything to the disk. */
function syncDisk(): void {
  const fd = fs.openSync(DISK_MOUNT, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
  try {
    syncFileSystem(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** Whether some mount, in whatever namespace, still holds the device. */
export function isHeld(device: string): boolean {
  try {
    fs.closeSync(fs.openSync(device, fs.constants.O_RDONLY | fs.constants.O_EXCL));
    return false;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EBUSY") return true;
    throw error;
  }
}

function readSuperblock(device: string): Buffer {
  const block = Buffer.alloc(SUPERBLOCK_BYTES);
  const fd = fs.openSync(device, "r");
  try {
    fs.readSync(fd, block, 0, block.length, SUPERBLOCK_OFFSET);
  } finally {
    fs.closeSync(fd);
  }
  return block;
}
