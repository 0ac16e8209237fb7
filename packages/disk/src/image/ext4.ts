/**
 * ext4 file systems in files, made and grown without mounting anything. Only on our own trusted
 * content: no tool here ever reads a disk that a guest has written.
 *
 * A file system is made just large enough for its content and grown per size. All inode tables are
 * marked as zeroed: the file is sparse and reads zeros, and without the mark every guest would
 * spend its first minutes writing them, which costs 1.6 GB of real space per 100 GB.
 */
import fs from "node:fs/promises";
import { run, RunError } from "@sprited/base";
import { DiskError } from "../errors.ts";

export const GIB = 1024 ** 3;
const MIB = 1024 ** 2;
const BLOCK_BYTES = 4096;
/** One inode for so many bytes. */
const BYTES_PER_INODE = 16_384;
/** Largest size to which an image can be grown, GiB. Room for its block tables is set aside when it is made. */
export const STORAGE_GB_MAX = 2000;
export const STORAGE_GB_MIN = 5;
const MKFS_TIMEOUT_MS = 10 * 60_000;

const GROUP_FLAG = { INODE_UNINIT: 1, BLOCK_UNINIT: 2, ITABLE_ZEROED: 4 } as const;

/** Bytes of a file system that holds `contentBytes` in `entries` files and directories. */
export function imageBytes(contentBytes: number, entries: number): number {
  const journalAndTables = 192 * MIB;
  const forContent = contentBytes * 1.08 + entries * 256 + journalAndTables;
  const forInodes = entries * 1.2 * BYTES_PER_INODE;
  return Math.ceil(Math.max(forContent, forInodes) / (128 * MIB)) * 128 * MIB;
}

/** Arguments of mke2fs for a file system with the content of `tree`. */
export function mkfsArgs(options: { tree: string; target: string; bytes: number; uuid: string; label: string }): string[] {
  const extended = [
    `resize=${(STORAGE_GB_MAX * GIB) / BLOCK_BYTES}`,
    `hash_seed=${options.uuid}`,
    "assume_storage_prezeroed=1",
    "lazy_journal_init=1",
    "nodiscard",
    "root_owner=0:0",
  ];
  return [
    `-q -F -t ext4 -b ${BLOCK_BYTES} -I 256 -i ${BYTES_PER_INODE} -m 1 -J size=64 -O 64bit,metadata_csum`.split(" "),
    ["-E", extended.join(","), "-U", options.uuid, "-L", options.label],
    ["-d", options.tree, options.target, `${options.bytes / 1024}k`],
  ].flat();
}

/** Group descriptors as `dumpe2fs` prints them → debugfs commands that mark all inode tables as zeroed. */
export function zeroedTableCommands(dumpe2fs: string): string {
  const commands: string[] = [];
  for (const match of dumpe2fs.matchAll(/^Group (\d+): .*?(?:\[([A-Z_, ]*)\])?$/gm)) {
    const names = (match[2] ?? "").split(/, */).filter(Boolean);
    if (names.includes("ITABLE_ZEROED")) continue;
    let flags: number = GROUP_FLAG.ITABLE_ZEROED;
    for (const name of names) flags |= GROUP_FLAG[name as keyof typeof GROUP_FLAG] ?? 0;
    commands.push(`set_bg ${match[1]} flags ${flags}`, `set_bg ${match[1]} checksum calc`);
  }
  return commands.map((command) => `${command}\n`).join("");
}

/** Grows the file system in `file` to `bytes`, offline. Throws `disk_build_failed`. */
export async function growFileSystem(file: string, bytes: number, options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
  try {
    await fs.truncate(file, bytes);
    await run("resize2fs", [file], { timeoutMs: MKFS_TIMEOUT_MS, signal: options.signal });
    const { stdout } = await run("dumpe2fs", [file], { signal: options.signal });
    const commands = zeroedTableCommands(stdout);
    if (commands !== "") await run("debugfs", ["-w", "-f", "-", file], { input: commands, signal: options.signal });
  } catch (cause) {
    if (!(cause instanceof RunError)) throw cause;
    throw toolFailed("growing a file system", cause);
  }
}

/** Checks a file system of ours without changing it. Throws `disk_damaged`. */
export async function checkFileSystem(file: string, options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
  try {
    await run("e2fsck", ["-f", "-n", file], { timeoutMs: MKFS_TIMEOUT_MS, signal: options.signal });
  } catch (cause) {
    if (!(cause instanceof RunError)) throw cause;
    throw new DiskError("disk_damaged", `${file} holds a damaged file system: build the image again`, { cause });
  }
}

/** A failed tool whose output says that there was no room is `disk_full`. */
export function toolFailed(what: string, cause: RunError): DiskError {
  if (/no space left on device|could not allocate block/i.test(cause.stderr)) {
    return new DiskError("disk_full", `${what}: the disk is full; free some space and try again`, { cause });
  }
  return new DiskError("disk_build_failed", `${what} failed`, { cause });
}
