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

/** Thrown into a log whose writer broke the numbering. */
export class OffsetError extends Error {
  override readonly name = "OffsetError";
}

export class OutputLog {
  #chunks: OutputChunk[] = [];
  /** Position of `#chunks[0]` in the sequence of all chunks. */
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
    this.#heldBytes += data.length;
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
    const cursor: Cursor = { at: options.fromStart ? this.#first : this.#first + this.#chunks.length };
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
        const chunk = this.#chunks[cursor.at - this.#first];
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

  /** Drops what every reader has taken; without readers, what exceeds the bound. */
  #trim(): void {
    const end = this.#first + this.#chunks.length;
    let keepFrom = end;
    for (const cursor of this.#cursors) keepFrom = Math.min(keepFrom, cursor.at);
    if (this.#cursors.size === 0) keepFrom = this.#first;
    let drop = Math.max(0, keepFrom - this.#first);
    // A later client may still want the scrollback: keep up to the bound even when it was taken.
    let freed = 0;
    let index = 0;
    while (index < drop && this.#heldBytes - freed > SESSION_HELD_BYTES_MAX / 2) freed += this.#chunks[index++]?.data.length ?? 0;
    drop = index;
    while (this.#cursors.size === 0 && this.#heldBytes - freed > SESSION_HELD_BYTES_MAX) freed += this.#chunks[drop++]?.data.length ?? 0;
    if (drop === 0) return;
    this.#chunks = this.#chunks.slice(drop);
    this.#first += drop;
    this.#heldBytes -= freed;
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
