/** Where a sparse file has data. */
import fs from "node:fs/promises";
import { run, RunError } from "@sprited/base";

/** A range of a file, bytes. */
export interface Extent {
  offset: number;
  length: number;
}

const EXTENTS_TIMEOUT_MS = 120_000;

/** Ranges that may hold something other than zeros, in order; the whole file where the file system does not tell. */
export async function dataExtents(file: string, options: { signal?: AbortSignal | undefined } = {}): Promise<Extent[]> {
  const { size } = await fs.stat(file);
  if (size === 0) return [];
  try {
    const { stdout } = await run("filefrag", ["-s", "-e", "-b1", file], { timeoutMs: EXTENTS_TIMEOUT_MS, signal: options.signal });
    const extents = parseExtents(stdout, size);
    if (extents) return extents;
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
  }
  return [{ offset: 0, length: size }];
}

/** The list that `filefrag -e -b1` prints; undefined when it is none. Ranges that were reserved and never written are left out. Pure. */
export function parseExtents(text: string, size: number): Extent[] | undefined {
  if (!/^ ext:/m.test(text)) return /: 0 extents found/.test(text) ? [] : undefined;
  const extents: Extent[] = [];
  for (const match of text.matchAll(/^\s*\d+:\s*(\d+)\.\.\s*(\d+):\s*\d+\.\.\s*\d+:\s*(\d+):(.*)$/gm)) {
    const offset = Number(match[1]);
    const length = Math.min(Number(match[3]), size - offset);
    if (length <= 0 || /unwritten/.test(match[4] ?? "")) continue;
    const last = extents.at(-1);
    if (last && last.offset + last.length === offset) last.length += length;
    else extents.push({ offset, length });
  }
  return extents;
}
