/**
 * Input that was handed over but is not yet safe with the server. Pure.
 *
 * Invariants: offsets count the session's input from its beginning; what is kept is exactly the
 * bytes from `start` to `end`; an acknowledgement never goes back.
 */
export class InputKeeper {
  #start: number;
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  /** No more input comes. */
  isEnded = false;

  /** `start`: the session's input so far, bytes. */
  constructor(start: number) {
    this.#start = start;
  }

  /** Offset of the oldest byte kept. */
  get start(): number {
    return this.#start;
  }

  /** Offset after the last byte. */
  get end(): number {
    return this.#start + this.#bytes;
  }

  /** Bytes kept. */
  get bytes(): number {
    return this.#bytes;
  }

  append(data: Uint8Array): void {
    if (data.length === 0) return;
    this.#pieces.push(data);
    this.#bytes += data.length;
  }

  /** Forgets what lies before `offset`. More than was ever sent (other clients type too) empties it. */
  acknowledge(offset: number): void {
    while (offset > this.#start) {
      const first = this.#pieces[0];
      if (!first) {
        this.#start = offset;
        return;
      }
      const taken = Math.min(first.length, offset - this.#start);
      if (taken === first.length) this.#pieces.shift();
      else this.#pieces[0] = first.subarray(taken);
      this.#start += taken;
      this.#bytes -= taken;
    }
  }

  /** Some bytes from `offset` on; undefined when there are none. */
  from(offset: number): Uint8Array | undefined {
    let at = this.#start;
    for (const piece of this.#pieces) {
      if (offset < at + piece.length) return piece.subarray(Math.max(0, offset - at));
      at += piece.length;
    }
    return undefined;
  }
}
