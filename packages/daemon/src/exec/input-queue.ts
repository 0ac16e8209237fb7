/**
 * Input on its way to a command: kept until the agent says it was taken, so that a new link can
 * send it again from there (EXEC-4). Bounded; writers wait when it is full.
 */
import { SESSION_HELD_BYTES_MAX } from "./output-log.ts";

export interface InputChunk {
  offset: number;
  data: Uint8Array;
}

export class InputQueue {
  #chunks: InputChunk[] = [];
  #taken = 0;
  #end = 0;
  #ended = false;
  #abandoned = false;
  #waiters: (() => void)[] = [];

  /** Total length so far. */
  get length(): number {
    return this.#end;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Queues bytes; returns the chunk to send now. Undefined when the input is closed: late bytes are dropped. */
  push(data: Uint8Array): InputChunk | undefined {
    if (this.#ended || data.length === 0) return undefined;
    const chunk = { offset: this.#end, data };
    this.#chunks.push(chunk);
    this.#end += data.length;
    return chunk;
  }

  /** No more input. Returns whether this was the first time. */
  end(): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    return true;
  }

  /** The command took everything before `offset`. Offsets beyond what was sent are ignored: they come from the guest. */
  taken(offset: number): void {
    if (offset <= this.#taken || offset > this.#end) return;
    this.#taken = offset;
    while (this.#chunks[0] && this.#chunks[0].offset + this.#chunks[0].data.length <= offset) this.#chunks.shift();
    this.#wake();
  }

  /** What a new link must send again, the first chunk cut to begin at what was taken. */
  pending(): InputChunk[] {
    return this.#chunks.map((chunk) => {
      const skip = Math.max(0, this.#taken - chunk.offset);
      return { offset: chunk.offset + skip, data: chunk.data.subarray(skip) };
    });
  }

  /** The session is over: nobody waits any longer. */
  abandon(): void {
    this.#abandoned = true;
    this.#ended = true;
    this.#wake();
  }

  /** Resolves when less than the bound is waiting. */
  async room(): Promise<void> {
    while (!this.#abandoned && this.#end - this.#taken >= SESSION_HELD_BYTES_MAX) {
      await new Promise<void>((resolve) => this.#waiters.push(resolve));
    }
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter();
  }
}
