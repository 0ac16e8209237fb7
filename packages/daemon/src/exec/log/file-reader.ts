/**
 * One reader of a log in files: from the shared tail in memory when it keeps up, else from the
 * files. Its place in a file is kept while it reads from the tail, so that falling behind again
 * costs nothing.
 *
 * Invariants: pieces come in the order of positions, without overlap; every byte between two
 * pieces was told as a gap; a piece counts as taken when the next one is asked for.
 */
import fs, { type FileHandle } from "node:fs/promises";
import { ignore } from "@sprited/base";
import type { LogPiece } from "../exec.ts";
import { BLOCK_BYTES, readBlock, type Segment } from "./segment-scan.ts";
import { decodeRecord, RECORD_HEADER_BYTES, type RecordData, SEGMENT_HEADER_BYTES } from "./segment.ts";
import { type Offsets, positionOf } from "./session-log.ts";

export type OutputPiece = Extract<LogPiece, { kind: "output" }>;

/** What a reader sees of its log. */
export interface LogView {
  /** Segments that exist now, in order. */
  readonly segments: readonly Segment[];
  /** Offsets up to which there is something to read. */
  readonly visible: Offsets;
  readonly isClosed: boolean;
  /** The piece in memory that holds a position, if there is one. */
  inMemory(position: number): OutputPiece | undefined;
  /** Resolves at the next change. */
  changed(): Promise<void>;
  /** A reader has moved. */
  moved(): void;
  /** Tells that a file holds something else than records. */
  damaged(path: string): void;
}

/** Where a reader is in a file. */
interface Place {
  segment: Segment;
  handle: FileHandle;
  /** Of the next record in the file. */
  at: number;
  /** Offsets before that record. */
  offsets: Offsets;
  /** What was read of the file, and from where. */
  block: Buffer;
  blockAt: number;
}

export class FileReader {
  /** Everything before it was taken. */
  position: number;
  #isOpen = true;
  /** The generator is in the files; it lets go of them itself. */
  #busy = false;
  readonly #log: LogView;
  #place: Place | undefined;
  /** Offsets at `position`, once they are known. */
  #offsets: Offsets | undefined;

  constructor(log: LogView, position: number) {
    this.#log = log;
    this.position = position;
  }

  /** `follow`: waits for more until the log is closed. */
  async *pieces(options: { follow: boolean }): AsyncGenerator<LogPiece, void, void> {
    try {
      while (this.#isOpen) {
        this.#busy = true;
        const piece = this.#fromMemory() ?? (await this.#fromFiles());
        this.#busy = false;
        if (!this.#isOpen) return;
        if (piece) {
          yield piece;
          this.#taken(piece);
        } else if (this.position >= positionOf(this.#log.visible)) {
          if (this.#log.isClosed || !options.follow) return;
          await this.#log.changed();
        }
      }
    } finally {
      await this.#leave();
    }
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Ends `pieces` at the next occasion; a file is let go of also when nobody asks for pieces any more. */
  close(): void {
    this.#isOpen = false;
    if (!this.#busy) void this.#leave();
  }

  #taken(piece: LogPiece): void {
    if (piece.kind === "gap") {
      this.position += piece.bytes;
      this.#offsets = piece.streamEnd;
    } else {
      this.position = piece.position + piece.data.length;
      if (this.#offsets) this.#offsets = { ...this.#offsets, [piece.stream]: piece.offset + piece.data.length };
    }
    this.#log.moved();
  }

  #fromMemory(): LogPiece | undefined {
    const piece = this.#log.inMemory(this.position);
    return piece && cut(piece, this.position);
  }

  /** The next piece of the files; undefined when there is none yet, or a file went away meanwhile. */
  async #fromFiles(): Promise<LogPiece | undefined> {
    if (this.position >= positionOf(this.#log.visible)) return undefined;
    const place = this.#place;
    if (!place || this.position >= positionOf(place.segment.end)) return await this.#enter();
    for (;;) {
      const record = await nextRecord(place);
      if (!record) {
        this.#log.damaged(place.segment.path);
        return this.#gapTo(place.segment.end);
      }
      const position = positionOf(place.offsets);
      const { stream, offset, data } = record;
      place.at += RECORD_HEADER_BYTES + data.length;
      place.offsets = { ...place.offsets, [stream]: offset + data.length };
      if (position + data.length > this.position) return cut({ kind: "output", stream, offset, position, data }, this.position);
    }
  }

  /** Goes to the segment that holds the position; what lies before the next one is a gap. */
  async #enter(): Promise<LogPiece | undefined> {
    await this.#leave();
    const segment = this.#log.segments.find(({ end }) => positionOf(end) > this.position);
    if (!segment) return this.#gapTo(this.#log.visible);
    if (positionOf(segment.start) > this.position) return this.#gapTo(segment.start);
    try {
      const handle = await fs.open(segment.path, "r");
      this.#place = { segment, handle, at: SEGMENT_HEADER_BYTES, offsets: segment.start, block: Buffer.alloc(0), blockAt: 0 };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      // Dropped in this moment, or taken away by somebody.
      if (this.#log.segments.includes(segment)) return this.#gapTo(segment.end);
    }
    return undefined;
  }

  #gapTo(end: Offsets): LogPiece {
    const known = this.#offsets;
    return {
      kind: "gap",
      position: this.position,
      bytes: positionOf(end) - this.position,
      streamBytes: known ? { stdout: end.stdout - known.stdout, stderr: end.stderr - known.stderr } : { stdout: 0, stderr: 0 },
      streamEnd: { ...end },
    };
  }

  async #leave(): Promise<void> {
    const place = this.#place;
    this.#place = undefined;
    await place?.handle.close().catch(ignore("it was only read"));
  }
}

/** The record at a place; undefined when there is none, although the log wrote one there. */
async function nextRecord(place: Place): Promise<RecordData | undefined> {
  const inBlock = decodeRecord(place.block, place.at - place.blockAt, place.offsets);
  if (typeof inBlock === "object") return inBlock;
  place.block = await readBlock(place.handle, place.at, Math.min(BLOCK_BYTES, place.segment.bytes - place.at));
  place.blockAt = place.at;
  const record = decodeRecord(place.block, 0, place.offsets);
  return typeof record === "object" ? record : undefined;
}

/** The piece from `position` on, which lies within it. */
function cut(piece: OutputPiece, position: number): OutputPiece {
  const skip = Math.max(0, position - piece.position);
  return skip === 0 ? piece : { ...piece, offset: piece.offset + skip, position: piece.position + skip, data: piece.data.subarray(skip) };
}
