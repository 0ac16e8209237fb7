/**
 * Finds a key pressed with Ctrl in what the user types. Pure.
 *
 * Ctrl-\ arrives as byte 0x1c, or as `CSI 92 ; 5 u` / `CSI 27 ; 5 ; 92 ~` when the remote program
 * asked the terminal for such reports; other keys accordingly.
 *
 * Invariants: nothing is held back (a lone ESC must reach the remote at once), so a report that
 * arrives in pieces is passed on but for its last piece; pasted text is no key.
 */

const ESC = 0x1b;
/** Modifier bits that lock keys set: caps lock, num lock. */
const LOCKS = 64 | 128;
const CONTROL = 4;
const RELEASE = 3;
const PARAMETERS_MAX = 64;

/** A key by the byte that Ctrl makes of it and by its own character code. */
interface Key {
  byte: number;
  code: number;
}

/** Ctrl-\. */
export const DETACH_KEY: Key = { byte: 0x1c, code: 92 };
/** Ctrl-C. */
export const INTERRUPT_KEY: Key = { byte: 0x03, code: 99 };

export class ControlKey {
  readonly #key: Key;
  #state: "ground" | "escape" | "csi" = "ground";
  #parameters = "";
  #pasting = false;

  constructor(key: Key) {
    this.#key = key;
  }

  /** Reads a piece of input: how many of its bytes come before the key; undefined when it is not there. */
  find(input: Uint8Array): number | undefined {
    let start = 0;
    for (let at = 0; at < input.length; at++) {
      const byte = input[at] ?? 0;
      if (byte === ESC) {
        start = at;
        this.#state = "escape";
      } else if (byte === this.#key.byte && !this.#pasting) {
        return at;
      } else if (this.#step(byte)) {
        return start;
      }
    }
    return undefined;
  }

  /** Takes one byte; true when it completes a report of the key. */
  #step(byte: number): boolean {
    if (this.#state === "escape") {
      this.#state = byte === 0x5b ? "csi" : "ground";
      this.#parameters = "";
      return false;
    }
    if (this.#state === "ground") return false;
    if (byte >= 0x20 && byte < 0x40) {
      if (this.#parameters.length < PARAMETERS_MAX) this.#parameters += String.fromCharCode(byte);
      return false;
    }
    this.#state = "ground";
    const final = String.fromCharCode(byte);
    if (final === "~" && this.#parameters === "200") this.#pasting = true;
    if (final === "~" && this.#parameters === "201") this.#pasting = false;
    return !this.#pasting && isReport(this.#key, this.#parameters, final);
  }
}

function isReport({ code }: Key, parameters: string, final: string): boolean {
  const fields = parameters.split(";").map((field) => field.split(":").map(Number));
  const [first = [], second = [], third = []] = fields;
  if (final === "u") return first[0] === code && isControl(second[0]) && second[1] !== RELEASE;
  if (final === "~") return first[0] === 27 && isControl(second[0]) && third[0] === code;
  return false;
}

function isControl(modifiers: number | undefined): boolean {
  return modifiers !== undefined && ((modifiers - 1) & ~LOCKS) === CONTROL;
}
