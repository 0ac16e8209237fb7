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
