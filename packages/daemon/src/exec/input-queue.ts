/**
 * Input on its way to a command: kept until the agent says it was taken, so that a new link can
 * send it again from there (EXEC-4). Bounded; writers wait when it is full.
 *
 * Invariants: offsets of chunks follow each other without gaps; whose the bytes of a chunk are is
 * noted before the chunk can be sent; after a restart of the daemon the first offset is not known
 * before the guest's first word, and nothing is queued until then.
 */
import type { InputLedger, InputOf } from "./input-ledger.ts";

/** Input that is kept for a command that does not take it, bytes. */
export const INPUT_HELD_BYTES_MAX = 1024 * 1024;
/** What holding a chunk costs beside its data, bytes. */
const CHUNK_COST_BYTES = 128;

export interface InputChunk {
  offset: number;
  data: Uint8Array;
}

export class InputQueue {
  #chunks: InputChunk[] = [];
  #heldBytes = 0;
  #taken = 0;
  #end = 0;
  #ended = false;
  #abandoned = false;
  #known: boolean;
  #waiters: (() => void)[] = [];
  readonly #ledger: InputLedger;
  readonly #listeners = new Set<() => void>();
  readonly #whenKnown = Promise.withResolvers<void>();

  constructor(options: { ledger: InputLedger; known: boolean }) {
    this.#ledger = options.ledger;
    this.#known = options.known;
    if (options.known) this.#whenKnown.resolve();
  }

  /** Total length so far, of all clients. */
  get length(): number {
    return this.#end;
  }

  /** Bytes the command took, of all clients. */
  get takenBytes(): number {
    return this.#taken;
  }

  get ended(): boolean {
    return this.#ended;
  }

  get isKnown(): boolean {
    return this.#known;
  }

  /** Resolves when offsets are known, or never will be. */
  get known(): Promise<void> {
    return this.#whenKnown.promise;
  }

  /** The listener is called whenever the command took something. */
  onTaken(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** How much of a client's input is here or beyond, and how much the command took. */
  of(client: string): InputOf {
    return this.#ledger.of(client);
  }

  /**
   * Queues bytes of a client, once offsets are known; false when the input is closed: late bytes
   * are dropped. Throws what the ledger's store throws, and then has not queued them.
   */
  push(data: Uint8Array, client: string): boolean {
    if (this.#ended) return false;
    if (data.length === 0) return true;
    this.#ledger.accept(client, data.length);
    this.#chunks.push({ offset: this.#end, data });
    this.#end += data.length;
    this.#heldBytes += data.length + CHUNK_COST_BYTES;
    this.#wake();
    return true;
  }

  /** No more input. Returns whether this was the first time. */
  end(): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    this.#wake();
    return true;
  }

  /** The guest's first word on a new link: what the command took, what the guest has, and whether that is all. */
  begin(guest: { taken: number; received: number; ended: boolean }): void {
    if (!this.#known) {
      this.#ledger.resume(guest.taken, guest.received);
      this.#known = true;
      this.#taken = guest.taken;
      this.#end = guest.received;
      this.#ended ||= guest.ended;
      this.#whenKnown.resolve();
    }
    this.taken(guest.taken);
  }

  /** The command took everything before `offset`. Offsets beyond what was sent are ignored: they come from the guest. */
  taken(offset: number): void {
    if (offset <= this.#taken || offset > this.#end) return;
    this.#taken = offset;
    let gone = 0;
    for (const { offset: at, data } of this.#chunks) {
      if (at + data.length > offset) break;
      this.#heldBytes -= data.length + CHUNK_COST_BYTES;
      gone += 1;
    }
    this.#chunks.splice(0, gone);
    this.#ledger.took(offset);
    this.#wake();
    for (const listener of this.#listeners) listener();
  }

  /** What is to be sent from `offset` on; undefined when that is all there is. */
  from(offset: number): InputChunk | undefined {
    const at = Math.max(offset, this.#taken);
    const chunk = this.#chunks.find((one) => one.offset + one.data.length > at);
    return chunk && { offset: Math.max(at, chunk.offset), data: chunk.data.subarray(Math.max(0, at - chunk.offset)) };
  }

  /** The session is over: nobody waits any longer. */
  abandon(): void {
    this.#abandoned = true;
    this.#ended = true;
    this.#chunks = [];
    this.#heldBytes = 0;
    this.#whenKnown.resolve();
    this.#wake();
  }

  /** Resolves when less than the bound is waiting. */
  async room(): Promise<void> {
    while (!this.#abandoned && this.#heldBytes >= INPUT_HELD_BYTES_MAX) await this.changed();
  }

  /** Resolves with the next change, or with `interrupt`. */
  changed(): Promise<void> {
    return new Promise<void>((resolve) => this.#waiters.push(resolve));
  }

  /** Wakes everybody who waits for a change, to look again. */
  interrupt(): void {
    this.#wake();
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter();
  }
}
