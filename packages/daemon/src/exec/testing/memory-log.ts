/**
 * A session's output in memory, for tests of what stands around a log: chunks in the order they
 * came, bounded, never dropped unread.
 *
 * Invariants: what readers have not taken is kept, and `room()` waits while that is more than the
 * bound; without a reader the writer waits too.
 */
import type { LogPiece } from "../exec.ts";
import {
  OffsetError,
  type Offsets,
  type OutputChunk,
  positionOf,
  type LogReader,
  type ReadOptions,
  type SessionLog,
} from "../log/session-log.ts";

/** What one session may hold that clients have not taken, bytes. */
export const MEMORY_LOG_BYTES_MAX = 1024 * 1024;
/** What holding a chunk costs beside its data, bytes: a flood of tiny chunks must not escape the bound. */
const CHUNK_COST_BYTES = 192;
/** Dropped chunks are cut off the array only in batches: each `append` stays cheap. */
const COMPACT_CHUNKS = 512;

interface Held extends OutputChunk {
  position: number;
}

interface Cursor {
  /** Count of chunks before the next one. */
  at: number;
}

export class MemoryLog implements SessionLog {
  /** Chunks before `#head` were dropped and are only not cut off yet. */
  #chunks: (Held | undefined)[] = [];
  #head = 0;
  /** Count of all chunks before `#chunks[#head]`. */
  #first = 0;
  #heldBytes = 0;
  #next: Offsets = { stdout: 0, stderr: 0 };
  #closed = false;
  readonly #cursors = new Set<Cursor>();
  #waiters: (() => void)[] = [];
  #onSafe: () => void = () => {};

  get offsets(): Offsets {
    return { ...this.#next };
  }

  get safe(): Offsets {
    return this.offsets;
  }

  get startOffsets(): Offsets {
    const start = this.offsets;
    for (let at = this.#end - 1; at >= this.#first; at -= 1) {
      const chunk = this.#held(at);
      if (chunk) start[chunk.stream] = chunk.offset;
    }
    return start;
  }

  get start(): number {
    return this.#chunks[this.#head]?.position ?? this.end;
  }

  get end(): number {
    return positionOf(this.#next);
  }

  get bytes(): number {
    return this.#heldBytes;
  }

  get isFull(): boolean {
    return this.#heldBytes >= MEMORY_LOG_BYTES_MAX;
  }

  append(chunk: OutputChunk): void {
    const expected = this.#next[chunk.stream];
    if (chunk.offset > expected) throw new OffsetError(`${chunk.stream} jumps from ${expected} to ${chunk.offset}`);
    const data = chunk.data.subarray(expected - chunk.offset);
    if (data.length === 0) return;
    this.#chunks.push({ stream: chunk.stream, offset: expected, position: this.end, data });
    this.#next[chunk.stream] = expected + data.length;
    this.#heldBytes += data.length + CHUNK_COST_BYTES;
    this.#wake();
    this.#onSafe();
  }

  onSafe(listener: () => void): void {
    this.#onSafe = listener;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#wake();
  }

  async flush(): Promise<void> {}

  async discard(): Promise<void> {
    await this.close();
  }

  async room(): Promise<void> {
    while (this.isFull && !this.#closed) await this.#changed();
  }

  read(options: ReadOptions): LogReader {
    const { from } = options;
    const wanted = typeof from === "object" && "position" in from ? from.position : undefined;
    const at = from === "end" ? this.#end : wanted === undefined ? this.#first : this.#chunkAt(wanted);
    const cursor: Cursor = { at };
    const position = this.#held(at)?.position ?? this.end;
    this.#cursors.add(cursor);
    const close = (): void => {
      if (!this.#cursors.delete(cursor)) return;
      this.#wake();
    };
    const follow = options.follow ?? true;
    const skip = Math.max(0, Math.min(wanted ?? 0, this.end) - position);
    return { position: position + skip, pieces: this.#iterate(cursor, { skip, follow, close }), close };
  }

  async *#iterate(cursor: Cursor, options: { skip: number; follow: boolean; close: () => void }): AsyncGenerator<LogPiece> {
    let { skip } = options;
    try {
      while (this.#cursors.has(cursor)) {
        const chunk = this.#held(cursor.at);
        if (chunk) {
          const { stream, offset, position, data } = chunk;
          // The cursor moves when the reader comes back: a chunk counts as taken only then.
          yield { kind: "output", stream, offset: offset + skip, position: position + skip, data: data.subarray(skip) };
          skip = 0;
          cursor.at += 1;
          this.#trim();
          this.#wake();
        } else if (this.#closed || !options.follow) return;
        else await this.#changed();
      }
    } finally {
      options.close();
    }
  }

  /** Count of all chunks up to the newest. */
  get #end(): number {
    return this.#first + this.#chunks.length - this.#head;
  }

  #held(at: number): Held | undefined {
    return this.#chunks[this.#head + at - this.#first];
  }

  /** The chunk that holds a position; the oldest when that is gone. */
  #chunkAt(position: number): number {
    let at = this.#first;
    for (let chunk = this.#held(at); chunk && chunk.position + chunk.data.length <= position; chunk = this.#held(at)) at += 1;
    return at;
  }

  /** Drops what every reader has taken, down to half the bound: a client that comes back at once finds the latest. */
  #trim(): void {
    let slowest = this.#end;
    for (const cursor of this.#cursors) slowest = Math.min(slowest, cursor.at);
    while (this.#heldBytes > MEMORY_LOG_BYTES_MAX / 2 && this.#first < slowest) {
      this.#heldBytes -= (this.#held(this.#first)?.data.length ?? 0) + CHUNK_COST_BYTES;
      this.#chunks[this.#head] = undefined;
      this.#head += 1;
      this.#first += 1;
    }
    if (this.#head < COMPACT_CHUNKS || this.#head * 2 < this.#chunks.length) return;
    this.#chunks = this.#chunks.slice(this.#head);
    this.#head = 0;
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter();
  }
}
