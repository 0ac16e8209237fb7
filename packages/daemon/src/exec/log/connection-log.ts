/**
 * What the peer of a connection sent, in memory, until the client has it for good (PROXY-5). Only
 * then is it acknowledged to the agent, so neither a cut WebSocket nor a killed daemon loses a byte.
 *
 * Invariants: kept is exactly what lies between what was confirmed and the newest byte; `room()`
 * waits while that is more than the bound; a reader may begin before its first byte has come.
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
} from "./session-log.ts";

/** What one connection may hold that its client has not confirmed, bytes. */
const CONNECTION_LOG_BYTES_MAX = 1024 * 1024;

interface Held extends OutputChunk {
  position: number;
}

export class ConnectionLog implements SessionLog {
  #chunks: Held[] = [];
  /** Count of all chunks before `#chunks[0]`. */
  #first = 0;
  #safe: Offsets;
  #next: Offsets;
  #confirmed = 0;
  #heldBytes = 0;
  #closed = false;
  #waiters: (() => void)[] = [];
  #onSafe: () => void = () => {};

  /** `from`: offsets from which on the agent still has everything. */
  constructor(from: Offsets = { stdout: 0, stderr: 0 }) {
    this.#safe = { ...from };
    this.#next = { ...from };
  }

  get offsets(): Offsets {
    return { ...this.#next };
  }

  get safe(): Offsets {
    return { ...this.#safe };
  }

  get startOffsets(): Offsets {
    return this.safe;
  }

  get start(): number {
    return positionOf(this.#safe);
  }

  get end(): number {
    return positionOf(this.#next);
  }

  get bytes(): number {
    return this.#heldBytes;
  }

  get isFull(): boolean {
    return this.#heldBytes >= CONNECTION_LOG_BYTES_MAX;
  }

  append(chunk: OutputChunk): void {
    const expected = this.#next[chunk.stream];
    if (chunk.offset > expected) throw new OffsetError(`${chunk.stream} jumps from ${expected} to ${chunk.offset}`);
    const data = chunk.data.subarray(expected - chunk.offset);
    if (data.length === 0) return;
    this.#chunks.push({ stream: chunk.stream, offset: expected, position: this.end, data });
    this.#next[chunk.stream] = expected + data.length;
    this.#heldBytes += data.length;
    this.#wake();
    this.#drop();
  }

  onSafe(listener: () => void): void {
    this.#onSafe = listener;
  }

  /**
   * The client has every byte before `position` for good. That may be more than has come: after a
   * restart of the daemon the agent sends again what was not acknowledged to it.
   */
  confirm(position: number): void {
    this.#confirmed = Math.max(this.#confirmed, position);
    this.#drop();
  }

  #drop(): void {
    const position = Math.min(this.#confirmed, this.end);
    if (position <= this.start) return;
    let gone = 0;
    for (const { stream, offset, position: at, data } of this.#chunks) {
      if (at >= position) break;
      const bytes = Math.min(data.length, position - at);
      this.#safe[stream] = offset + bytes;
      if (bytes < data.length) break;
      this.#heldBytes -= data.length;
      gone += 1;
    }
    this.#chunks.splice(0, gone);
    this.#first += gone;
    this.#wake();
    this.#onSafe();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#wake();
  }

  async flush(): Promise<void> {}

  async discard(): Promise<void> {
    this.#chunks = [];
    await this.close();
  }

  async room(): Promise<void> {
    while (this.isFull && !this.#closed) await this.#changed();
  }

  read(options: ReadOptions): LogReader {
    const { from } = options;
    const wanted = typeof from === "object" && "position" in from ? from.position : from === "end" ? this.end : this.start;
    const over = { isClosed: false };
    const close = (): void => {
      over.isClosed = true;
      this.#wake();
    };
    return { position: Math.max(wanted, this.start), pieces: this.#iterate(wanted, over, options.follow ?? true), close };
  }

  async *#iterate(asked: number, over: { isClosed: boolean }, follow: boolean): AsyncGenerator<LogPiece> {
    const wanted = Math.max(asked, this.start);
    if (wanted > asked) {
      const bytes = wanted - asked;
      yield { kind: "gap", position: asked, bytes, streamBytes: { stdout: bytes, stderr: 0 }, streamEnd: this.safe };
    }
    for (let at = this.#first; !over.isClosed;) {
      at = Math.max(at, this.#first);
      const chunk = this.#chunks[at - this.#first];
      if (chunk) {
        at += 1;
        const skip = Math.max(0, wanted - chunk.position);
        if (skip >= chunk.data.length) continue;
        const { stream, offset, position, data } = chunk;
        yield { kind: "output", stream, offset: offset + skip, position: position + skip, data: data.subarray(skip) };
      } else if (this.#closed || !follow) return;
      else await this.#changed();
    }
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
