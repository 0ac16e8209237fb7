/**
 * The bytes of a control sequence or UTF-8 character that output broke off in. A picture taken
 * there ends with them, so that what follows is read as their rest and not as text. Pure.
 *
 * Invariants: any chunking gives the same state; memory is bounded: of a string that is too long
 * only its introducer is kept, which makes a terminal swallow the rest.
 */

/** Longest unfinished sequence kept whole, bytes. */
const KEPT_BYTES_MAX = 64 * 1024;
const EMPTY = new Uint8Array(0);

type State = "ground" | "utf8" | "escape" | "sequence" | "string";

export class Unfinished {
  #state: State = "ground";
  /** Continuation bytes still due. */
  #due = 0;
  #kept: Uint8Array[] = [];
  #keptBytes = 0;
  /** True once only the introducer is kept. */
  #cut = false;
  /** The byte before was 0xc2: together with 0x80..0x9f it is a C1 control. */
  #c1 = false;

  /** Takes the next output. */
  feed(data: Uint8Array): void {
    let start = 0;
    for (let at = 0; at < data.length; at++) {
      const before = this.#state;
      const began = this.#step(data[at] ?? 0);
      if (began || (before === "ground" && this.#state !== "ground")) {
        this.#drop();
        start = at;
      } else if (this.#state === "ground" && before !== "ground") this.#drop();
    }
    if (this.#state !== "ground") this.#keep(data.slice(start));
  }

  /** What to append to a picture of everything fed so far. */
  bytes(): Uint8Array {
    if (this.#state === "ground") return EMPTY;
    return Buffer.concat(this.#kept);
  }

  /** True when a sequence begins with this byte. */
  #step(byte: number): boolean {
    if (byte === 0x1b) {
      this.#state = "escape";
      return true;
    }
    const c1 = this.#c1 && byte >= 0x80 && byte <= 0x9f;
    this.#c1 = byte === 0xc2;
    if (byte === 0x18 || byte === 0x1a) this.#state = "ground";
    else if (this.#state === "string") this.#state = byte === 0x07 || (c1 && byte === 0x9c) ? "ground" : "string";
    else if (this.#state === "escape") this.#state = afterEscape(byte);
    else if (this.#state === "sequence") this.#state = byte >= 0x40 && byte <= 0x7e ? "ground" : "sequence";
    else if (c1) this.#state = afterC1(byte);
    else return this.#text(byte);
    return false;
  }

  #text(byte: number): boolean {
    const lead = byte >= 0xf0 && byte <= 0xf4 ? 3 : byte >= 0xe0 ? 2 : byte >= 0xc2 ? 1 : 0;
    if (lead > 0 && byte <= 0xf4) {
      this.#due = lead;
      this.#state = "utf8";
      return true;
    }
    const continues = this.#state === "utf8" && byte >= 0x80 && byte <= 0xbf;
    if (!continues || --this.#due === 0) this.#state = "ground";
    return false;
  }

  #keep(bytes: Uint8Array): void {
    if (this.#cut) return;
    this.#kept.push(bytes);
    this.#keptBytes += bytes.length;
    if (this.#keptBytes <= KEPT_BYTES_MAX) {
      if (this.#kept.length > 64) this.#kept = [Buffer.concat(this.#kept)];
      return;
    }
    this.#kept = [Uint8Array.from(Buffer.concat(this.#kept).subarray(0, 2))];
    this.#cut = true;
  }

  #drop(): void {
    this.#kept = [];
    this.#keptBytes = 0;
    this.#cut = false;
  }
}

function afterEscape(byte: number): State {
  if (byte === 0x5b) return "sequence";
  // DCS, SOS, OSC, PM, APC
  if ([0x50, 0x58, 0x5d, 0x5e, 0x5f].includes(byte)) return "string";
  // Intermediates and controls within a sequence leave it open.
  return byte < 0x30 ? "escape" : "ground";
}

function afterC1(byte: number): State {
  if (byte === 0x9b) return "sequence";
  return [0x90, 0x98, 0x9d, 0x9e, 0x9f].includes(byte) ? "string" : "ground";
}
