/**
 * Standard input as the body of one request after another, until the server has all of it.
 *
 * Invariants: a body goes on byte by byte from where it begins; what the server has not
 * acknowledged is kept, and so is what this body has not carried yet; a server that does not count
 * gets everything once, without delay.
 *
 * What is behind a proxy that passes a body on only when it is whole answers nothing before the
 * end of the input: then the oldest bytes are let go, and said to be (`isGivenUp`).
 */
import { InputKeeper } from "@sprited/protocol/client/input-keeper";

/** Input kept for a server that counts, and read ahead of what is sent, bytes; then no more is read. */
const KEPT_BYTES_MAX = 1024 * 1024;
/** Input kept for a server that has not answered yet, bytes; more than the networks between hold by themselves. */
const UNANSWERED_BYTES_MAX = 16 * 1024 * 1024;

export class PostedInput {
  readonly #source: AsyncIterable<Uint8Array>;
  readonly #kept = new InputKeeper(0);
  #server: "unknown" | "counts" | "does not count";
  /** Offset up to which the present body has carried it. */
  #sent = 0;
  /** Offset up to which the server needs no more. */
  #acknowledged = 0;
  /** Offset up to which it was let go without that. */
  #letGo = 0;
  #isReading = false;
  #changed = Promise.withResolvers<void>();

  /** `isKept`: whether it may have to be sent again. */
  constructor(source: AsyncIterable<Uint8Array>, options: { isKept: boolean }) {
    this.#source = source;
    this.#server = options.isKept ? "unknown" : "does not count";
  }

  /** Of the oldest byte kept: no body can begin before it. */
  get offset(): number {
    return this.#kept.start;
  }

  /** Some of it cannot be sent again although the server may need it. */
  get isGivenUp(): boolean {
    return this.#server !== "does not count" && this.#letGo > this.#acknowledged;
  }

  /** What the answer showed. */
  learn(server: "counts" | "does not count"): void {
    if (this.#server === "unknown") this.#server = server;
    this.#trim();
  }

  /** The server needs nothing before `offset` any more. */
  acknowledge(offset: number): void {
    this.#acknowledged = Math.max(this.#acknowledged, offset);
    this.#trim();
  }

  /** Sends it from an offset on, at the pace of `send`. True at its end, false when `signal` aborted. Rejects when `send` does. */
  async sendTo(body: { from: number; send: (piece: Uint8Array) => Promise<void> }, signal: AbortSignal): Promise<boolean> {
    const { from, send } = body;
    if (from < this.#kept.start) throw new RangeError("input that is no longer kept");
    if (!this.#isReading) void this.#read();
    signal.addEventListener("abort", () => this.#tell(), { once: true });
    this.#sent = from;
    while (!signal.aborted) {
      const piece = this.#kept.from(this.#sent);
      if (piece) {
        await send(piece);
        if (signal.aborted) break; // another body may have begun
        this.#sent += piece.length;
        this.#trim();
      } else if (this.#kept.isEnded) return true;
      else await this.#changed.promise;
    }
    return false;
  }

  /** Lets go of what neither this body nor another one has to carry. */
  #trim(): void {
    const isTooMuch = this.#server === "unknown" && this.#kept.bytes > UNANSWERED_BYTES_MAX;
    if (this.#server === "does not count" || isTooMuch) this.#letGo = Math.max(this.#letGo, this.#sent);
    this.#kept.acknowledge(Math.min(this.#sent, Math.max(this.#acknowledged, this.#letGo)));
    this.#tell();
  }

  async #read(): Promise<void> {
    this.#isReading = true;
    try {
      for await (const chunk of this.#source) {
        this.#kept.append(chunk);
        this.#tell();
        while (!this.#hasRoom) await this.#changed.promise;
      }
    } catch {
      // Standard input cannot be read: it counts as ended.
    }
    this.#kept.isEnded = true;
    this.#tell();
  }

  get #hasRoom(): boolean {
    const held = this.#server === "counts" ? this.#kept.bytes : this.#kept.end - this.#sent;
    return held <= KEPT_BYTES_MAX;
  }

  #tell(): void {
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers();
    resolve();
  }
}
