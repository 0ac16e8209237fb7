/**
 * The output of one session as the daemon holds it: chunks in the order they came, each stream
 * numbered from 0. Readers have a cursor each; the log is bounded (EXEC-3).
 *
 * Invariants: offsets of a stream have no gaps; `heldBytes ≤ bytesMax` whenever no reader is
 * attached; with readers, `room()` resolves only when the slowest has taken enough.
 */
import type { OutputChunk } from "./exec.ts";

/** What one session may hold that clients have not taken, bytes. */
export const SESSION_HELD_BYTES_MAX = 1024 * 1024;
/** What holding a chunk costs beside its data, bytes: a flood of tiny chunks must not escape the bound. */
const CHUNK_COST_BYTES = 192;
/** Dropped chunks are cut off the array only in batches: each `append` stays cheap. */
const COMPACT_CHUNKS = 512;

/** Thrown into a log whose writer broke the numbering. */
export class OffsetError extends Error {
  override readonly name = "OffsetError";
}

export class OutputLog {
  /** Chunks before `#head` were dropped and are only not cut off yet. */
  #chunks: (OutputChunk | undefined)[] = [];
  #head = 0;
  /** Position of `#chunks[#head]` in the sequence of all chunks. */
  #first = 0;
  #heldBytes = 0;
  #next = { stdout: 0, stderr: 0 };
  #beginAnywhere = new Set<OutputChunk["stream"]>();
  #closed = false;
  readonly #cursors = new Set<Cursor>();
  #waiters: (() => void)[] = [];

  /** Bytes received so far per stream: where a new link goes on. */
  get offsets(): { stdout: number; stderr: number } {
    return { ...this.#next };
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** The session was found in a guest: its first bytes may be gone, so each stream begins where its first chunk does. */
  beginAnywhere(): void {
    this.#beginAnywhere = new Set(["stdout", "stderr"]);
  }

  /** Whether the writer should wait for `room()`. */
  get isFull(): boolean {
    return this.#cursors.size > 0 && this.#heldBytes >= SESSION_HELD_BYTES_MAX;
  }

  /** Takes a chunk; bytes held already are cut off (EXEC-1). Throws `OffsetError` on a gap. */
  append(chunk: OutputChunk): void {
    if (this.#beginAnywhere.delete(chunk.stream)) this.#next[chunk.stream] = chunk.offset;
    const expected = this.#next[chunk.stream];
    if (chunk.offset > expected) throw new OffsetError(`${chunk.stream} jumps from ${expected} to ${chunk.offset}`);
    const data = chunk.data.subarray(expected - chunk.offset);
    if (data.length === 0) return;
    this.#chunks.push({ stream: chunk.stream, offset: expected, data });
    this.#next[chunk.stream] = expected + data.length;
    this.#heldBytes += data.length + CHUNK_COST_BYTES;
    this.#trim();
    this.#wake();
  }

  /** No more output will come. */
  close(): void {
    this.#closed = true;
    this.#wake();
  }

  /** Resolves when the writer may go on: at once without readers, else when the slowest caught up. */
  async room(): Promise<void> {
    while (this.isFull && !this.#closed) await this.#changed();
  }

  /** A reader from the oldest byte held (or only what comes from now on). */
  read(options: { fromStart: boolean }): LogReader {
    const cursor: Cursor = { at: options.fromStart ? this.#first : this.#end };
    this.#cursors.add(cursor);
    const close = (): void => {
      if (!this.#cursors.delete(cursor)) return;
      this.#trim();
      this.#wake();
    };
    return { chunks: this.#iterate(cursor, close), close };
  }

  async *#iterate(cursor: Cursor, close: () => void): AsyncGenerator<OutputChunk> {
    try {
      while (this.#cursors.has(cursor)) {
        const chunk = this.#chunks[this.#head + cursor.at - this.#first];
        if (chunk) {
          // The cursor moves when the reader comes back: a chunk counts as taken only then.
          yield chunk;
          cursor.at += 1;
          this.#trim();
          this.#wake();
        } else if (this.#closed) return;
        else await this.#changed();
      }
    } finally {
      close();
    }
  }

  /** Position after the newest chunk. */
  get #end(): number {
    return this.#first + this.#chunks.length - this.#head;
  }

  /**
   * Drops the oldest chunks: those every reader has taken, down to half the bound (a later
   * client still gets some scrollback); without readers, whatever exceeds the bound.
   */
  #trim(): void {
    let slowest = this.#end;
    for (const cursor of this.#cursors) slowest = Math.min(slowest, cursor.at);
    const keep = this.#cursors.size > 0 ? SESSION_HELD_BYTES_MAX / 2 : SESSION_HELD_BYTES_MAX;
    while (this.#heldBytes > keep && this.#first < slowest) {
      this.#heldBytes -= (this.#chunks[this.#head]?.data.length ?? 0) + CHUNK_COST_BYTES;
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

interface Cursor {
  at: number;
}

export interface LogReader {
  /** Ends when the log is closed and everything was read, or after `close`. */
  chunks: AsyncIterable<OutputChunk>;
  close(): void;
}
