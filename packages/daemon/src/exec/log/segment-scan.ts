/**
 * Finds what a log's directory holds: which segments, where each begins, and where the last good
 * byte is (LOG-6, LOG-7). Garbage is left out, never an error.
 */
import fs, { type FileHandle } from "node:fs/promises";
import path from "node:path";
import {
  decodeRecord,
  decodeSegmentHeader,
  RECORD_DATA_BYTES_MAX,
  RECORD_HEADER_BYTES,
  SEGMENT_HEADER_BYTES,
  segmentPosition,
} from "./segment.ts";
import { type Offsets, positionOf } from "./session-log.ts";

/** Read at once, bytes; holds at least one whole record. */
export const BLOCK_BYTES = 2 * (RECORD_DATA_BYTES_MAX + RECORD_HEADER_BYTES);

/** One file of a log. */
export interface Segment {
  path: string;
  start: Offsets;
  /** Offsets after its last record. */
  end: Offsets;
  /** Bytes of the file that hold records (and the header). */
  bytes: number;
}

/** The segments in order; `end` of all but the last is where the next one begins. A missing directory has none. */
export async function scanSegments(directory: string): Promise<Segment[]> {
  const segments: Segment[] = [];
  for (const name of (await namesIn(directory)).sort()) {
    const segment = await openSegment(path.join(directory, name), segmentPosition(name) ?? 0);
    const before = segments.at(-1);
    if (!segment || (before && !isBehind(before.start, segment.start))) continue;
    if (before) before.end = segment.start;
    segments.push(segment);
  }
  const last = segments.at(-1);
  if (last) Object.assign(last, await scanRecords(last));
  return segments;
}

/** Follows the records of a segment to the last good one. */
async function scanRecords(segment: Segment): Promise<{ end: Offsets; bytes: number }> {
  const handle = await fs.open(segment.path, "r");
  try {
    const end = { ...segment.start };
    let at = SEGMENT_HEADER_BYTES;
    for (;;) {
      const block = await readBlock(handle, at, BLOCK_BYTES);
      const before = at;
      for (let record = decodeRecord(block, at - before, end); typeof record === "object"; record = decodeRecord(block, at - before, end)) {
        end[record.stream] += record.data.length;
        at = before + record.end;
      }
      if (at === before) return { end, bytes: at };
    }
  } finally {
    await handle.close();
  }
}

/** Up to `bytes` bytes from `at`; shorter only at the file's end. */
export async function readBlock(handle: FileHandle, at: number, bytes: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(bytes);
  let filled = 0;
  while (filled < bytes) {
    const { bytesRead } = await handle.read(buffer, filled, bytes - filled, at + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.subarray(0, filled);
}

async function openSegment(file: string, position: number): Promise<Segment | undefined> {
  const handle = await fs.open(file, "r");
  try {
    const start = decodeSegmentHeader(await readBlock(handle, 0, SEGMENT_HEADER_BYTES));
    if (!start || positionOf(start) !== position) return undefined;
    return { path: file, start, end: start, bytes: (await handle.stat()).size };
  } finally {
    await handle.close();
  }
}

function isBehind(one: Offsets, other: Offsets): boolean {
  return one.stdout <= other.stdout && one.stderr <= other.stderr;
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await fs.readdir(directory)).filter((name) => segmentPosition(name) !== undefined);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
