/**
 * What a session's output log is, wherever it is kept (docs/spec/exec-log.md).
 *
 * Invariants: each stream is numbered from 0 without gaps as it comes in; the position of a byte
 * is the count of bytes of both streams before it in log order, so a position is always the sum
 * of both offsets; a reader gets every kept byte once, in order, and is told of every byte that
 * is not kept any more.
 */
import type { AttachFrom, LogPiece } from "../exec.ts";

export type StreamName = "stdout" | "stderr";
export type Offsets = Record<StreamName, number>;

/** Output as it comes from the agent. */
export interface OutputChunk {
  stream: StreamName;
  offset: number;
  data: Uint8Array;
}

export function positionOf(offsets: Offsets): number {
  return offsets.stdout + offsets.stderr;
}

/** Thrown into a log whose writer broke the numbering. */
export class OffsetError extends Error {
  override readonly name = "OffsetError";
}

export interface LogReader {
  /** Position of the first piece. */
  readonly position: number;
  /** Ends when the log is closed and everything was read, or after `close`. */
  readonly pieces: AsyncIterable<LogPiece>;
  /** `keepMs`: the reader's place is held for so long, although nobody reads. */
  close(options?: { keepMs?: number }): void;
}

export interface ReadOptions {
  /** With a stream's offset the reader begins at the piece that holds it, or somewhat before. */
  from: AttachFrom | { stream: StreamName; offset: number };
  /** Whether output that this reader has not taken may not be dropped. */
  holdsBack: boolean;
  /** False ends the reader at what is there now. Default true. */
  follow?: boolean;
}

/** A log that can be read. */
export interface ReadableLog {
  /** Bytes received so far per stream: where a new link goes on. */
  readonly offsets: Offsets;
  /** Offsets of the oldest bytes kept. */
  readonly startOffsets: Offsets;
  /** Position of the oldest byte kept. */
  readonly start: number;
  /** Position of the next byte that readers will see. */
  readonly end: number;
  read(options: ReadOptions): LogReader;
}

export interface SessionLog extends ReadableLog {
  /** Bytes that outlive the daemon: what may be acknowledged to the agent. */
  readonly safe: Offsets;
  /** What it takes, bytes. */
  readonly bytes: number;
  /** Whether the writer should wait for `room()`. */
  readonly isFull: boolean;
  /** Takes a chunk; bytes held already are cut off. Throws `OffsetError` on a gap. */
  append(chunk: OutputChunk): void;
  /** Resolves when more may be appended; at once after `close`. */
  room(): Promise<void>;
  /** Called whenever `safe` has grown. */
  onSafe(listener: () => void): void;
  /** Every byte before this position is the client's for good; left out where nothing waits for that. */
  confirm?(position: number): void;
  /** No more output will come: resolves when readers can see all of it. */
  close(): Promise<void>;
  /** Puts a closed log on the disk, as far as it has one. */
  flush(): Promise<void>;
  /** Its content is not needed any more. */
  discard(): Promise<void>;
}
