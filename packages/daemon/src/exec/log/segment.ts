/**
 * The bytes of a log segment (docs/spec/exec-log.md). Pure.
 *
 * ```
 * segment  8 "SPRLOG1\n" | u64 stdout | u64 stderr | u32 0 | u32 crc32 of the 28 bytes before | records
 * record   u32 crc32 of all that follows | u8 stream (1 stdout, 2 stderr) | u24 length | u64 offset | data
 * ```
 *
 * Big endian. Within a segment the offsets of each stream follow each other without gaps, so
 * whatever decodes here was written here, in this order.
 */
import { crc32 } from "node:zlib";
import { type Offsets, type OutputChunk, positionOf, type StreamName } from "./session-log.ts";

export const SEGMENT_HEADER_BYTES = 32;
export const RECORD_HEADER_BYTES = 16;
/** Longest data of one record, bytes. */
export const RECORD_DATA_BYTES_MAX = 64 * 1024;

const MAGIC = Buffer.from("SPRLOG1\n");
const STREAM_NUMBER: Record<StreamName, number> = { stdout: 1, stderr: 2 };

/** Name of the file of the segment that begins at `position`; names sort as positions do. */
export function segmentName(position: number): string {
  return `${String(position).padStart(16, "0")}.log`;
}

/** The position a file's name says; undefined for any other file. */
export function segmentPosition(name: string): number | undefined {
  const digits = /^(\d{16})\.log$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

export function encodeSegmentHeader(start: Offsets): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  MAGIC.copy(bytes);
  bytes.writeBigUInt64BE(BigInt(start.stdout), 8);
  bytes.writeBigUInt64BE(BigInt(start.stderr), 16);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, 28)), 28);
  return bytes;
}

/** Offsets at which a segment begins; undefined when the bytes are not a header. */
export function decodeSegmentHeader(bytes: Buffer): Offsets | undefined {
  if (bytes.length < SEGMENT_HEADER_BYTES || !bytes.subarray(0, 8).equals(MAGIC)) return undefined;
  if (bytes.readUInt32BE(28) !== crc32(bytes.subarray(0, 28))) return undefined;
  const start = { stdout: Number(bytes.readBigUInt64BE(8)), stderr: Number(bytes.readBigUInt64BE(16)) };
  return Number.isSafeInteger(positionOf(start)) ? start : undefined;
}

/** A record's data within the encoded bytes. */
export interface RecordData {
  stream: StreamName;
  offset: number;
  data: Buffer;
}

/**
 * Records of `chunks` in one buffer; neighbours of one stream become one record, so that many
 * small chunks cost little more than their bytes. The data returned lies in the same buffer.
 */
export function encodeRecords(chunks: readonly OutputChunk[]): { bytes: Buffer; records: RecordData[] } {
  const groups = grouped(chunks);
  const total = groups.reduce((sum, { length }) => sum + RECORD_HEADER_BYTES + length, 0);
  const bytes = Buffer.allocUnsafeSlow(total);
  const records: RecordData[] = [];
  let at = 0;
  for (const group of groups) {
    const end = at + RECORD_HEADER_BYTES + group.length;
    bytes.writeUInt32BE(((STREAM_NUMBER[group.stream] << 24) | group.length) >>> 0, at + 4);
    bytes.writeBigUInt64BE(BigInt(group.offset), at + 8);
    let to = at + RECORD_HEADER_BYTES;
    for (const part of group.parts) {
      bytes.set(part, to);
      to += part.length;
    }
    bytes.writeUInt32BE(crc32(bytes.subarray(at + 4, end)), at);
    records.push({ stream: group.stream, offset: group.offset, data: bytes.subarray(at + RECORD_HEADER_BYTES, end) });
    at = end;
  }
  return { bytes, records };
}

/** What lies at `at`: a record with the place after it, the beginning of one, or no record at all. */
export type DecodedRecord = (RecordData & { end: number }) | "short" | "damaged";

/** Reads a record that must go on at `expected`. */
export function decodeRecord(bytes: Buffer, at: number, expected: Offsets): DecodedRecord {
  if (bytes.length - at < RECORD_HEADER_BYTES) return "short";
  const word = bytes.readUInt32BE(at + 4);
  const length = word & 0xff_ffff;
  const stream = word >>> 24 === 1 ? "stdout" : word >>> 24 === 2 ? "stderr" : undefined;
  if (!stream || length === 0 || length > RECORD_DATA_BYTES_MAX) return "damaged";
  const offset = Number(bytes.readBigUInt64BE(at + 8));
  if (offset !== expected[stream]) return "damaged";
  const end = at + RECORD_HEADER_BYTES + length;
  if (end > bytes.length) return "short";
  if (bytes.readUInt32BE(at) !== crc32(bytes.subarray(at + 4, end))) return "damaged";
  return { stream, offset, data: bytes.subarray(at + RECORD_HEADER_BYTES, end), end };
}

interface Group {
  stream: StreamName;
  offset: number;
  parts: Uint8Array[];
  length: number;
}

function grouped(chunks: readonly OutputChunk[]): Group[] {
  const groups: Group[] = [];
  for (const { stream, offset, data } of chunks) {
    for (let at = 0; at < data.length;) {
      const last = groups.at(-1);
      const room = last?.stream === stream ? RECORD_DATA_BYTES_MAX - last.length : 0;
      const part = data.subarray(at, at + (room > 0 ? room : RECORD_DATA_BYTES_MAX));
      if (last && room > 0) {
        last.parts.push(part);
        last.length += part.length;
      } else groups.push({ stream, offset: offset + at, parts: [part], length: part.length });
      at += part.length;
    }
  }
  return groups;
}
