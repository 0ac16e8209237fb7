/**
 * Splits a terminal's output into text and control sequences, the way terminals do
 * (ECMA-48 with the usual extensions). Pure; any chunking gives the same events.
 *
 * ```
 * ESC I* F        escape: intermediates 0x20–0x2f, final 0x30–0x7e
 * CSI P* I* F     parameters 0x30–0x3f, intermediates, final 0x40–0x7e
 * OSC … BEL | ST  string; DCS, APC, PM and SOS the same, but only ST ends them
 * ```
 *
 * Invariants: at most `SEQUENCE_BYTES_MAX` bytes of a sequence are kept; CAN and SUB end any
 * sequence; ESC inside a sequence begins a new one; bytes from 0x80 are text (UTF-8).
 */

/** Longest part of one sequence that is kept, bytes; longer strings are shown cut off. */
const SEQUENCE_BYTES_MAX = 4096;

const BEL = 0x07;
const CAN = 0x18;
const SUB = 0x1a;
const ESC = 0x1b;

export interface ControlEvents {
  /** Bytes outside sequences, C0 controls included. */
  text(bytes: Uint8Array): void;
  /** For example intermediates `(`, final `0` for `ESC ( 0`. */
  escape(intermediates: string, final: string): void;
  /** `prefix` is the private marker (`?`, `>`, `<`, `=`) or empty. */
  csi(prefix: string, parameters: string, intermediates: string, final: string): void;
  osc(text: string): void;
}

type State = "ground" | "escape" | "csi" | "string" | "string-escape";

export class ControlParser {
  readonly #events: ControlEvents;
  #state: State = "ground";
  /** Bytes of the sequence so far, without its introducer. */
  #sequence = "";
  #isOsc = false;

  constructor(events: ControlEvents) {
    this.#events = events;
  }

  /** What the terminal is in the middle of. */
  get unfinished(): "nothing" | "sequence" | "string" {
    if (this.#state === "ground") return "nothing";
    return this.#state === "string" || this.#state === "string-escape" ? "string" : "sequence";
  }

  feed(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      if (this.#state === "ground") at = this.#text(bytes, at);
      else if (this.#state === "string") at = this.#string(bytes, at);
      else this.#byte(bytes[at++] ?? 0);
    }
  }

  /** Hands over text up to the next ESC; returns where to go on. */
  #text(bytes: Uint8Array, from: number): number {
    const escape = bytes.indexOf(ESC, from);
    const end = escape < 0 ? bytes.length : escape;
    if (end > from) this.#events.text(bytes.subarray(from, end));
    if (escape < 0) return end;
    this.#begin("escape");
    return escape + 1;
  }

  /** Takes a piece of a string; returns where to go on. */
  #string(bytes: Uint8Array, from: number): number {
    for (let at = from; at < bytes.length; at++) {
      const byte = bytes[at] ?? 0;
      if (byte === ESC) {
        this.#state = "string-escape";
        return at + 1;
      }
      if (byte === CAN || byte === SUB) {
        this.#state = "ground";
        return at + 1;
      }
      if (byte === BEL && this.#isOsc) {
        this.#endString();
        return at + 1;
      }
      this.#keep(byte);
    }
    return bytes.length;
  }

  #byte(byte: number): void {
    if (this.#state === "string-escape") {
      this.#endString();
      if (byte === 0x5c) return; // ST
      this.#begin("escape");
    }
    if (byte === ESC) return this.#begin("escape");
    if (byte === CAN || byte === SUB) {
      this.#state = "ground";
      return;
    }
    if (byte < 0x20) return this.#events.text(Uint8Array.of(byte)); // terminals execute C0 in the middle of a sequence
    if (this.#state === "escape") this.#escapeByte(byte);
    else this.#csiByte(byte);
  }

  #escapeByte(byte: number): void {
    if (byte < 0x30) return this.#keep(byte);
    const final = String.fromCharCode(byte);
    if (this.#sequence === "") {
      if (final === "[") return this.#begin("csi");
      if ("]PX^_".includes(final)) {
        this.#isOsc = final === "]";
        return this.#begin("string");
      }
    }
    this.#state = "ground";
    if (byte < 0x7f) this.#events.escape(this.#sequence, final);
  }

  #csiByte(byte: number): void {
    if (byte === 0x7f) return;
    if (byte < 0x40) return this.#keep(byte);
    this.#state = "ground";
    const parts = /^([<=>?]?)([0-9:;]*)([\x20-\x2f]*)$/.exec(this.#sequence);
    if (byte < 0x7f && parts) this.#events.csi(parts[1] ?? "", parts[2] ?? "", parts[3] ?? "", String.fromCharCode(byte));
  }

  #endString(): void {
    this.#state = "ground";
    if (this.#isOsc) this.#events.osc(this.#sequence);
  }

  #begin(state: State): void {
    this.#state = state;
    this.#sequence = "";
  }

  #keep(byte: number): void {
    if (this.#sequence.length < SEQUENCE_BYTES_MAX) this.#sequence += String.fromCharCode(byte);
  }
}
