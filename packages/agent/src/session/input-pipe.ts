/**
 * A command's input, applied exactly once by offset (SESS-5). The host sends at most
 * `inputWindowBytes` beyond what was taken, so nothing here needs to hold the stream back.
 *
 * Invariants: `taken` ≤ `received` ≤ `taken` + window; `taken` only grows; when the command no
 * longer reads, the rest counts as taken and is dropped.
 */
import type { Writable } from "node:stream";
import { GUEST_LIMITS } from "@sprited/protocol/guest";

/** The host broke SESS-5. */
export class InputError extends Error {
  override readonly name = "InputError";
}

/** How a terminal is told that input has ended. */
const END_OF_TRANSMISSION = Buffer.from([4]);

export class InputPipe {
  readonly #target: Writable | undefined;
  readonly #isTerminal: boolean;
  readonly #onTaken: () => void;
  #received = 0;
  #taken = 0;
  #end: number | undefined;
  #closed: boolean;

  /** `target` undefined: the command has an empty input and everything sent to it is dropped. */
  constructor(target: Writable | undefined, options: { isTerminal: boolean; onTaken: () => void }) {
    this.#target = target;
    this.#isTerminal = options.isTerminal;
    this.#onTaken = options.onTaken;
    this.#closed = target === undefined;
    target?.on("error", () => this.close());
    target?.once("close", () => this.close());
  }

  /** Every byte before this offset was accepted by the command. */
  get taken(): number {
    return this.#taken;
  }

  /** Every byte before this offset is here and will not be taken a second time. */
  get received(): number {
    return this.#received;
  }

  /** Whether all of the input has come. */
  get isComplete(): boolean {
    return this.#end !== undefined && this.#received === this.#end;
  }

  /** Takes input of the host; bytes that were taken before are dropped. Throws `InputError`. */
  write(offset: number, data: Uint8Array): void {
    if (offset > this.#received) throw new InputError(`input at ${offset}, expected ${this.#received}`);
    const fresh = data.subarray(this.#received - offset);
    if (fresh.length === 0) return;
    if (this.#end !== undefined && this.#received + fresh.length > this.#end) throw new InputError("input beyond its announced end");
    if (this.#received + fresh.length - this.#taken > GUEST_LIMITS.inputWindowBytes)
      throw new InputError("more input than the window allows");
    this.#received += fresh.length;
    if (this.#closed) {
      this.#take(fresh.length);
      return;
    }
    // A copy: the bytes are a view into a network buffer that lives as long as the slowest reader.
    this.#target?.write(Buffer.from(fresh), (error) => {
      if (!error) this.#take(fresh.length);
    });
  }

  /** The host will send nothing at or beyond `offset`. Throws `InputError`. */
  end(offset: number): void {
    if (offset < this.#received || (this.#end !== undefined && this.#end !== offset))
      throw new InputError("input ends before bytes that were sent");
    const isNew = this.#end === undefined;
    this.#end = offset;
    if (isNew) this.#finish();
  }

  /** The command reads no more: what it has not read is dropped. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#take(this.#received - this.#taken);
  }

  #take(bytes: number): void {
    if (bytes === 0) return;
    this.#taken = Math.min(this.#received, this.#taken + bytes);
    this.#onTaken();
    this.#finish();
  }

  #finish(): void {
    if (this.#end === undefined || this.#taken < this.#end || this.#closed) return;
    if (this.#isTerminal) this.#target?.write(END_OF_TRANSMISSION);
    else this.#target?.end();
  }
}
