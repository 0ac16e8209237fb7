/**
 * A session's output in files (docs/spec/exec-log.md): appended in batches, bounded, oldest
 * segments dropped, read by any number of readers.
 *
 * Invariants: one write at a time; readers see, and `safe` counts, only what was written; a byte
 * that a holding reader still needs is never dropped: the writer waits instead; memory is bounded
 * by the batch that waits and the tail, whatever readers do.
 */
import fs, { type FileHandle } from "node:fs/promises";
import path from "node:path";
import { ignore, type Logger, sleep } from "@sprited/base";
import { FileReader, type LogView, type OutputPiece } from "./file-reader.ts";
import { scanSegments, type Segment } from "./segment-scan.ts";
import { encodeRecords, encodeSegmentHeader, SEGMENT_HEADER_BYTES, segmentName } from "./segment.ts";
import {
  OffsetError,
  type Offsets,
  type OutputChunk,
  positionOf,
  type LogReader,
  type ReadOptions,
  type SessionLog,
} from "./session-log.ts";
import { Tail } from "./tail.ts";

/** Output that may wait for being written, bytes. */
export const WAITING_BYTES_MAX = 1024 * 1024;
/** What a waiting chunk costs beside its data, bytes. */
const CHUNK_COST_BYTES = 192;
/** A segment is closed beyond this size, bytes; smaller when the log is. */
const SEGMENT_BYTES = 4 * 1024 * 1024;
/** A log has at least so many segments before its oldest is dropped. */
const SEGMENTS_MIN = 8;
/**
 * What a slow reader may not use of the log: output that is under way to its client, in our and
 * the kernels' buffers, and would be lost with the connection, bytes. Of a small log the greater part.
 */
const UNDER_WAY_BYTES = 16 * 1024 * 1024;
const UNDER_WAY_PART = 3 / 4;
/** While output comes it is flushed to the disk so often, ms. */
const FLUSH_EVERY_MS = 5_000;
/** Pause before a failed write is tried again, ms. */
const RETRY_MS = 1_000;

export interface FileLogOptions {
  directory: string;
  /** Bound of the files together, bytes. */
  bytesMax: number;
  /** Offsets at which it begins; 0 when left out. */
  start?: Offsets | undefined;
  logger: Logger;
}

export class FileLog implements SessionLog, LogView {
  readonly #options: FileLogOptions;
  readonly #tail = new Tail();
  readonly #readers = new Map<FileReader, { holdsBack: boolean }>();
  /** Readers whose clients vanished, with how to let go of their places. */
  readonly #lost = new Map<FileReader, AbortController>();
  readonly #discarded = new AbortController();
  #segments: Segment[];
  #handle: FileHandle | undefined;
  #waiting: OutputChunk[] = [];
  #waitingBytes = 0;
  #next: Offsets;
  #safe: Offsets;
  #writing = false;
  #heldBack = false;
  #closed = false;
  #closing = false;
  #flushedMs = 0;
  #flushes: Promise<unknown> = Promise.resolve();
  #waiters: (() => void)[] = [];
  #onSafe: () => void = () => {};

  /** A new log: no file is made before the first output. */
  constructor(options: FileLogOptions, found: Segment[] = []) {
    this.#options = options;
    this.#segments = found;
    this.#next = { ...(found.at(-1)?.end ?? options.start ?? { stdout: 0, stderr: 0 }) };
    this.#safe = { ...this.#next };
  }

  /** The log that an earlier daemon left; a torn end is cut off (LOG-6). */
  static async reopen(options: FileLogOptions): Promise<FileLog> {
    const segments = await scanSegments(options.directory);
    const last = segments.at(-1);
    if (last && positionOf(last.start) === positionOf(last.end)) {
      segments.pop();
      await fs.rm(last.path, { force: true });
    } else if (last) await fs.truncate(last.path, last.bytes);
    return new FileLog(options, segments);
  }

  get offsets(): Offsets {
    return { ...this.#next };
  }
  get safe(): Offsets {
    return { ...this.#safe };
  }
  get visible(): Offsets {
    return this.#safe;
  }
  get startOffsets(): Offsets {
    return { ...(this.#segments[0]?.start ?? this.#safe) };
  }
  get start(): number {
    return positionOf(this.startOffsets);
  }
  get end(): number {
    return positionOf(this.#safe);
  }
  get segments(): readonly Segment[] {
    return this.#segments;
  }
  get isClosed(): boolean {
    return this.#closed;
  }
  get isFull(): boolean {
    return this.#waitingBytes >= WAITING_BYTES_MAX;
  }
  /** Bytes of the files together. */
  get bytes(): number {
    return this.#segments.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  append(chunk: OutputChunk): void {
    const expected = this.#next[chunk.stream];
    if (chunk.offset > expected) throw new OffsetError(`${chunk.stream} jumps from ${expected} to ${chunk.offset}`);
    const data = chunk.data.subarray(expected - chunk.offset);
    if (data.length === 0) return;
    this.#next[chunk.stream] = expected + data.length;
    this.#waiting.push({ stream: chunk.stream, offset: expected, data });
    this.#waitingBytes += data.length + CHUNK_COST_BYTES;
    this.#write();
  }

  async room(): Promise<void> {
    while (this.isFull && !this.#closing) await this.changed();
  }

  onSafe(listener: () => void): void {
    this.#onSafe = listener;
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#wake();
    while (this.#writing && !this.#discarded.signal.aborted) await this.changed();
    this.#closed = true;
    this.#wake();
  }

  /** Puts everything on the disk and lets go of the file; the log is closed. */
  async flush(): Promise<void> {
    await this.#leaveSegment();
    await this.#flushes;
  }

  /** Its files are going away: nothing more is written. */
  async discard(): Promise<void> {
    this.#discarded.abort();
    await this.close();
    await this.flush().catch(ignore("the files go away"));
  }

  read(options: ReadOptions): LogReader {
    const reader = new FileReader(this, this.#positionFor(options.from));
    if (options.holdsBack) this.#takeLostPlace(reader.position);
    this.#readers.set(reader, { holdsBack: options.holdsBack });
    const forget = (): void => {
      this.#readers.delete(reader);
      this.#lost.delete(reader);
      if (this.#readers.size === 0) this.#tail.clear();
      this.#wake();
    };
    return {
      position: reader.position,
      pieces: reader.pieces({ follow: options.follow ?? true }),
      close: ({ keepMs } = {}) => {
        if (!reader.isOpen) return;
        reader.close();
        this.#wake();
        if (keepMs === undefined || this.#closed) return forget();
        const taken = new AbortController();
        this.#lost.set(reader, taken);
        void sleep(keepMs, { ref: false, signal: AbortSignal.any([taken.signal, this.#discarded.signal]) }).then(forget, forget);
      },
    };
  }

  /** A client that comes back needs its old place no more: that of a lost reader which had got somewhat further. */
  #takeLostPlace(position: number): void {
    const places = [...this.#lost].filter(([{ position: to }]) => to >= position && to - this.#slackBytes <= position);
    places.sort(([a], [b]) => a.position - b.position)[0]?.[1].abort();
  }

  get #slackBytes(): number {
    return Math.min(UNDER_WAY_BYTES, this.#options.bytesMax * UNDER_WAY_PART);
  }

  inMemory(position: number): OutputPiece | undefined {
    return this.#tail.find(position);
  }

  changed(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  /** A reader moved: a writer that waits for it may go on. */
  moved(): void {
    if (this.#heldBack) this.#wake();
  }

  damaged(file: string): void {
    this.#options.logger.warn(
      { event: "exec.log_damaged", path: file },
      "a log file holds something else than a log; readers are told a gap",
    );
  }

  #positionFor(from: ReadOptions["from"]): number {
    if (from === "start") return this.start;
    if (from === "end") return this.end;
    if ("position" in from) return Math.min(from.position, this.end);
    const segment = this.#segments.findLast(({ start }) => start[from.stream] <= from.offset) ?? this.#segments[0];
    return segment ? positionOf(segment.start) : this.end;
  }

  /** Writes what waits, batch after batch; a write that fails is tried again until there is room (LOG-9). */
  #write(): void {
    if (this.#writing) return;
    this.#writing = true;
    void (async () => {
      // What comes in one go is written in one go.
      await new Promise<void>((resolve) => setImmediate(resolve));
      let warned = false;
      while (this.#waiting.length > 0 && !this.#discarded.signal.aborted) {
        try {
          await this.#writeBatch();
          warned = false;
        } catch (error) {
          if (!warned)
            this.#options.logger.error({ event: "exec.log_write", err: error }, "a log cannot be written; its command is held back");
          warned = true;
          await sleep(RETRY_MS, { signal: this.#discarded.signal }).catch(ignore("looked at by the loop"));
        }
      }
      this.#writing = false;
      this.#wake();
    })();
  }

  async #writeBatch(): Promise<void> {
    const chunks = this.#nextBatch();
    const { bytes, records } = encodeRecords(chunks);
    if (!(await this.#makeRoom(bytes.length))) return;
    const { segment, handle } = await this.#segmentFor();
    await writeAll(handle, bytes, segment.bytes);
    this.#waiting = this.#waiting.slice(chunks.length);
    for (const { stream, offset, data } of records) {
      const position = positionOf(this.#safe);
      if (this.#readers.size > 0) this.#tail.push({ kind: "output", stream, offset, position, data });
      this.#safe = { ...this.#safe, [stream]: offset + data.length };
    }
    for (const { data } of chunks) this.#waitingBytes -= data.length + CHUNK_COST_BYTES;
    segment.bytes += bytes.length;
    segment.end = { ...this.#safe };
    this.#wake();
    this.#onSafe();
    this.#flushNowAndThen(handle);
  }

  /** The chunks to write next: as many as wait, up to the size of a segment. */
  #nextBatch(): OutputChunk[] {
    let bytes = 0;
    const count = this.#waiting.findIndex(({ data }) => (bytes += data.length) >= this.#segmentBytes);
    return this.#waiting.slice(0, count < 0 ? undefined : count + 1);
  }

  /** Drops oldest segments until `bytes` fit; waits while a reader needs them. False when nothing is to be written any more. */
  async #makeRoom(bytes: number): Promise<boolean> {
    while (this.bytes + bytes > this.#options.bytesMax && this.#segments.length > 1) {
      const oldest = this.#segments[0] as Segment;
      if (!this.#isNeeded(oldest)) {
        this.#segments.shift();
        await fs.rm(oldest.path, { force: true });
        continue;
      }
      // The last output of a command that has ended: little enough, and nobody must wait for a slow client to learn of the end.
      if (this.#closing) return true;
      this.#heldBack = true;
      await this.changed();
      this.#heldBack = false;
      if (this.#discarded.signal.aborted) return false;
    }
    return true;
  }

  /**
   * Whether a holding reader has not taken all of the oldest segment, or has so little behind it
   * that what is under way to its client could be lost. One that took everything never waits for itself.
   */
  #isNeeded(oldest: Segment): boolean {
    for (const [{ position }, { holdsBack }] of this.#readers) {
      if (!holdsBack || position >= this.end) continue;
      if (position < positionOf(oldest.end)) return true;
      const behind = this.#segments.filter((one) => one !== oldest && positionOf(one.end) <= position);
      if (behind.reduce((sum, { bytes }) => sum + bytes, 0) < this.#slackBytes) return true;
    }
    return false;
  }

  async #segmentFor(): Promise<{ segment: Segment; handle: FileHandle }> {
    const current = this.#segments.at(-1);
    if (current && this.#handle && current.bytes < this.#segmentBytes) return { segment: current, handle: this.#handle };
    await this.#leaveSegment();
    const start = { ...this.#safe };
    const segment: Segment = {
      path: path.join(this.#options.directory, segmentName(positionOf(start))),
      start,
      end: start,
      bytes: SEGMENT_HEADER_BYTES,
    };
    if (this.#segments.length === 0) await fs.mkdir(this.#options.directory, { recursive: true, mode: 0o700 });
    const handle = await fs.open(segment.path, "w", 0o600);
    try {
      await writeAll(handle, encodeSegmentHeader(start), 0);
    } catch (error) {
      await handle.close();
      throw error;
    }
    this.#flushedMs = performance.now();
    this.#handle = handle;
    this.#segments.push(segment);
    return { segment, handle };
  }

  async #leaveSegment(): Promise<void> {
    const handle = this.#handle;
    if (!handle) return;
    this.#handle = undefined;
    this.#flushes = this.#flushes.then(async () => {
      await handle.datasync();
      await handle.close();
    });
    this.#flushes.catch(ignore("thrown by flush"));
  }

  #flushNowAndThen(handle: FileHandle): void {
    if (performance.now() - this.#flushedMs < FLUSH_EVERY_MS) return;
    this.#flushedMs = performance.now();
    this.#flushes = this.#flushes.then(() => handle.datasync());
    this.#flushes.catch(ignore("thrown by flush"));
  }

  get #segmentBytes(): number {
    return Math.min(SEGMENT_BYTES, Math.floor(this.#options.bytesMax / SEGMENTS_MIN));
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter();
  }
}

async function writeAll(handle: FileHandle, bytes: Buffer, at: number): Promise<void> {
  for (let written = 0; written < bytes.length;) {
    written += (await handle.write(bytes, written, bytes.length - written, at + written)).bytesWritten;
  }
}
