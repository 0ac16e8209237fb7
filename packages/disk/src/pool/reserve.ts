/**
 * Room on the disk for a sparse file that somebody maps: a page that found none when it is written
 * would end the program that writes it. Reserved ranges read as zeros and are in no clone.
 */
import fs from "node:fs/promises";
import { run, RunError } from "@sprited/base";
import { DiskError } from "../errors.ts";

/** Unit of `stat.blocks`. */
const BLOCK_BYTES = 512;
const RESERVE_TIMEOUT_MS = 60_000;
/** A line of `filefrag -e -b1`: first and last byte in the file, place on the disk, length, flags. */
const UNWRITTEN_RANGE = /^\s*\d+:\s*(\d+)\.\.\s*\d+:\s*\d+\.\.\s*\d+:\s*(\d+):.*\bunwritten\b/gm;

/** Bytes of `file` that have no room of their own yet, up to its size. */
export async function unreservedBytes(file: string): Promise<number> {
  const { size, blocks } = await fs.stat(file);
  return Math.max(0, size - blocks * BLOCK_BYTES);
}

/** Gives every byte of `file` room. Where the file system cannot, it stays as it is. Throws `disk_full`, `disk_io`. */
export async function reserveFile(file: string, what: string, options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
  const { size } = await fs.stat(file);
  try {
    await run("fallocate", ["--length", String(size), file], { timeoutMs: RESERVE_TIMEOUT_MS, signal: options.signal });
  } catch (cause) {
    if (!(cause instanceof RunError)) throw cause;
    if (/not supported/i.test(cause.stderr)) return;
    throw /no space left on device|disk quota/i.test(cause.stderr)
      ? new DiskError("disk_full", `${what} does not fit on the disk; free some space and try again`, { cause })
      : new DiskError("disk_io", `the disk could not make room for ${what}`, { cause });
  }
}

/**
 * Takes back the room of what was reserved and never written. Works in place: what of the file is in
 * the host's page cache stays there. Nobody may write to it meanwhile. Throws `disk_io`.
 */
export async function giveBackFile(file: string, what: string): Promise<void> {
  try {
    const { stdout } = await run("filefrag", ["-s", "-e", "-b1", file], { timeoutMs: RESERVE_TIMEOUT_MS });
    const punches = Array.from(stdout.matchAll(UNWRITTEN_RANGE), ([, offset, length]) => `fpunch ${offset} ${length}\n`);
    if (punches.length > 0) await run("xfs_io", [file], { input: punches.join(""), timeoutMs: RESERVE_TIMEOUT_MS });
  } catch (cause) {
    if (!(cause instanceof RunError)) throw cause;
    throw new DiskError("disk_io", `the disk could not take back the room that ${what} does not use`, { cause });
  }
}
