/**
 * Remembers which modes of the user's terminal the remote output changed. Pure: fed with output,
 * read by `undo.ts`. Rules CLI-32 and CLI-38 of docs/spec/cli.md.
 *
 * Invariants: only what differs from the state at the start is remembered, so that nothing is
 * undone that the remote left alone or put back itself; any chunking of the output gives the same
 * state; memory is bounded whatever the output.
 */
import { ControlParser } from "./control-parser.ts";

/** DEC private modes that are followed, with their state in a terminal at a shell prompt. */
export const PRIVATE_MODES: ReadonlyMap<number, boolean> = new Map([
  [1, false], // application cursor keys
  [5, false], // reverse video
  [6, false], // origin
  [7, true], // autowrap
  [8, true], // auto-repeat
  [9, false], // mouse: X10
  [25, true], // cursor shown
  [45, false], // reverse wraparound
  [66, false], // application keypad
  [69, false], // left and right margins
  ...[1000, 1001, 1002, 1003, 1005, 1006, 1015, 1016].map((mode): [number, boolean] => [mode, false]), // mouse
  [1004, false], // focus events
  [2004, false], // bracketed paste
  [2026, false], // synchronized output
  [2031, false], // colour scheme reports
  [2048, false], // resize reports
]);

/** Private modes that show the alternate screen. */
const ALTERNATE_MODES = new Set([47, 1047, 1049]);
/** Entries of kitty's keyboard stack that terminals keep. */
const KITTY_DEPTH_MAX = 64;
/** XTMODKEYS resources. */
const KEY_RESOURCES = new Set([0, 1, 2, 3, 4, 6, 7]);
/** OSC numbers that set colours, with the number that resets them. */
const COLOUR_RESETS: ReadonlyMap<number, number> = new Map([
  [4, 104],
  [5, 105],
  ...[10, 11, 12, 13, 14, 15, 16, 17, 18, 19].map((number): [number, number] => [number, number + 100]),
]);

/** Introducers of charset designations, with the one that designates ASCII to the same slot. */
const DESIGNATORS: ReadonlyMap<string, string> = new Map(
  [..."()*+"]
    .map((slot): [string, string] => [slot, slot])
    .concat([
      ["-", ")"],
      [".", "*"],
      ["/", "+"],
    ]),
);

/** Kitty keyboard flags of one screen. */
export interface KittyKeys {
  /** Entries pushed and not popped. */
  pushed: number;
  /** Flags set on the entry that was there before. */
  set: boolean;
}

interface Charsets {
  /** `(`, `)`, `*`, `+` → what was designated, when it is not ASCII. */
  designated: Map<string, string>;
  /** Which of G0 to G3 is in use. */
  active: number;
}

export class ModeTracker {
  /** Followed private modes that differ from `PRIVATE_MODES`. */
  readonly privateModes = new Map<number, boolean>();
  /** Mode by which the alternate screen is shown; undefined on the main screen. */
  alternate: number | undefined;
  readonly kitty = { main: { pushed: 0, set: false }, alternate: { pushed: 0, set: false } };
  readonly keyResources = new Set<number>();
  keyFormat = false;
  keypad = false;
  insert = false;
  newlineMode = false;
  margins = false;
  cursorShape = false;
  /** OSC numbers of the resets that are due. */
  readonly colours = new Set<number>();
  progress = false;
  hyperlink = false;
  charsets: Charsets = { designated: new Map(), active: 0 };
  otherCodingSystem = false;
  /** True while the cursor is known to be at the beginning of a line with nothing on it. */
  atLineStart = true;

  readonly #parser: ControlParser;
  readonly #savedModes = new Map<number, boolean>();
  #savedCharsets: Charsets | undefined;
  #lineStartBefore = true;
  #rows: number;

  constructor(rows: number) {
    this.#rows = rows;
    this.#parser = new ControlParser({
      text: (bytes) => this.#text(bytes),
      escape: (intermediates, final) => this.#escape(intermediates, final),
      csi: (prefix, parameters, intermediates, final) => this.#csi(prefix, parameters, intermediates, final),
      osc: (text) => this.#osc(text),
    });
  }

  feed(output: Uint8Array): void {
    this.#parser.feed(output);
  }

  /** The terminal has another height now. */
  resize(rows: number): void {
    this.#rows = rows;
  }

  get unfinished(): "nothing" | "sequence" | "string" {
    return this.#parser.unfinished;
  }

  /** True when the cursor will be on an empty line once everything is undone. */
  get leavesFreshLine(): boolean {
    if (this.alternate !== undefined) return this.alternate === 1049 && this.#lineStartBefore;
    return this.atLineStart && !this.privateModes.has(6);
  }

  /** True while the terminal may send bytes on its own: mouse, focus, key reports. */
  get sendsReports(): boolean {
    const { main, alternate } = this.kitty;
    const modes = [9, 1000, 1001, 1002, 1003, 1004, 2031, 2048];
    return modes.some((mode) => this.privateModes.get(mode)) || main.pushed > 0 || main.set || alternate.pushed > 0 || alternate.set;
  }

  #text(bytes: Uint8Array): void {
    if (bytes.includes(0x0e) || bytes.includes(0x0f)) this.charsets.active = bytes.lastIndexOf(0x0e) > bytes.lastIndexOf(0x0f) ? 1 : 0;
    for (let at = bytes.length - 1; at >= 0; at--) {
      const byte = bytes[at] ?? 0;
      if (byte === 0x0a) this.atLineStart = true;
      else if (byte < 0x20 && byte !== 0x08 && byte !== 0x09) continue; // moves nothing
      else this.atLineStart = false;
      return;
    }
  }

  #escape(intermediates: string, final: string): void {
    if (intermediates === "") this.#plainEscape(final);
    else if (intermediates === "%") this.otherCodingSystem = final === "@";
    else this.#designate(intermediates.charAt(0), intermediates.slice(1) + final);
  }

  #designate(introducer: string, charset: string): void {
    const slot = DESIGNATORS.get(introducer);
    if (slot === undefined) return;
    if (charset === "B" && slot === introducer) this.charsets.designated.delete(slot);
    else this.charsets.designated.set(slot, charset);
  }

  #plainEscape(final: string): void {
    if (final === "=") this.keypad = true;
    else if (final === ">") this.keypad = false;
    else if (final === "n") this.charsets.active = 2;
    else if (final === "o") this.charsets.active = 3;
    else if (final === "7") this.#saveCursor();
    else if (final === "8") this.#restoreCursor();
    else if (final === "c") this.#hardReset();
    else if ("DEM".includes(final)) this.atLineStart = final === "E";
  }

  #csi(prefix: string, parameters: string, intermediates: string, final: string): void {
    const key = `${prefix}${intermediates}${final}`;
    const numbers = parameters.split(";").map((part) => Number.parseInt(part, 10) || 0);
    const [first = 0, second = 0] = numbers;
    if (key === "?h" || key === "?l") for (const mode of numbers) this.#setPrivate(mode, final === "h");
    else if (key === "?s") for (const mode of numbers) this.#savePrivate(mode);
    else if (key === "?r")
      for (const mode of numbers) this.#setPrivate(mode, this.#savedModes.get(mode) ?? PRIVATE_MODES.get(mode) ?? false);
    else if (key === "h" || key === "l") this.#setAnsi(numbers, final === "h");
    else if (key === "r") this.margins = first > 1 || (second > 0 && second < this.#rows);
    else if (key === " q") this.cursorShape = first !== 0;
    else if (key === "!p") this.#softReset();
    else if (key === ">m") this.#keyResource(parameters, first, second);
    else if (key === ">n") this.keyResources.add(parameters === "" ? 2 : first);
    else if (key === ">f") this.keyFormat = parameters !== "" && second !== 0;
    else if (key === ">u" || key === "<u" || key === "=u") this.#kittyKeys(prefix, parameters, first, second);
    else if (prefix === "" && intermediates === "" && "ABCDEFGHISTYZ`abdefj".includes(final)) this.atLineStart = false;
  }

  #setPrivate(mode: number, on: boolean): void {
    if (ALTERNATE_MODES.has(mode)) this.#showAlternate(mode, on);
    else if (mode === 12) this.cursorShape = true; // blinking; its state at the start is not known
    else if (mode === 66) this.keypad = on;
    else if (mode === 1048 && on) this.#saveCursor();
    else if (mode === 1048) this.#restoreCursor();
    const usual = PRIVATE_MODES.get(mode);
    if (usual === undefined || mode === 66) return;
    if (on === usual) this.privateModes.delete(mode);
    else this.privateModes.set(mode, on);
  }

  #savePrivate(mode: number): void {
    const usual = PRIVATE_MODES.get(mode);
    if (usual !== undefined) this.#savedModes.set(mode, mode === 66 ? this.keypad : (this.privateModes.get(mode) ?? usual));
    else if (ALTERNATE_MODES.has(mode)) this.#savedModes.set(mode, this.alternate !== undefined);
  }

  #showAlternate(mode: number, on: boolean): void {
    if (on === (this.alternate !== undefined)) return;
    if (on) {
      this.#lineStartBefore = this.atLineStart;
      if (mode === 1049) this.#saveCursor();
      this.alternate = mode;
    } else {
      this.alternate = undefined;
      if (mode === 1049) {
        this.atLineStart = this.#lineStartBefore;
        this.#restoreCursor();
      } else this.atLineStart = false;
    }
  }

  #setAnsi(modes: readonly number[], on: boolean): void {
    if (modes.includes(4)) this.insert = on;
    if (modes.includes(20)) this.newlineMode = on;
  }

  #keyResource(parameters: string, resource: number, value: number): void {
    if (parameters === "") this.keyResources.clear();
    else if (value === 0) this.keyResources.delete(resource);
    else if (KEY_RESOURCES.has(resource)) this.keyResources.add(resource);
  }

  #kittyKeys(prefix: string, parameters: string, first: number, second: number): void {
    const keys: KittyKeys = this.alternate === undefined ? this.kitty.main : this.kitty.alternate;
    if (prefix === ">") keys.pushed = Math.min(KITTY_DEPTH_MAX, keys.pushed + 1);
    else if (prefix === "<") keys.pushed = Math.max(0, keys.pushed - (parameters === "" ? 1 : Math.max(1, first)));
    else if (keys.pushed === 0 && (first !== 0 || second < 2)) keys.set = first !== 0; // on a pushed entry it goes with the entry
  }

  #osc(text: string): void {
    const [, number = "", rest = ""] = /^(\d{1,5})(?:;([^]*))?$/.exec(text) ?? [];
    const code = Number(number);
    const reset = COLOUR_RESETS.get(code);
    if (reset !== undefined) {
      const values = rest.split(";");
      if (values.some((value, index) => value !== "" && value !== "?" && (code > 5 || index % 2 === 1)))
        this.#setColours(code, values.length, reset);
    } else if (code >= 104 && code <= 119) {
      if (rest === "") this.colours.delete(code);
    } else if (code === 8) this.hyperlink = /;[^;]/.test(`${rest.slice(rest.indexOf(";"))}`);
    else if (code === 9 && rest.startsWith("4;")) this.progress = !rest.startsWith("4;0");
  }

  /** OSC 10 to 19 take one colour for each number from `code` on. */
  #setColours(code: number, count: number, reset: number): void {
    if (code <= 5) this.colours.add(reset);
    else for (let offset = 0; offset < count && code + offset <= 19; offset++) this.colours.add(reset + offset);
  }

  #saveCursor(): void {
    this.#savedCharsets = { designated: new Map(this.charsets.designated), active: this.charsets.active };
  }

  #restoreCursor(): void {
    this.charsets = { designated: new Map(this.#savedCharsets?.designated), active: this.#savedCharsets?.active ?? 0 };
    if (this.alternate !== undefined) this.atLineStart = false;
  }

  #softReset(): void {
    for (const mode of [1, 6, 7, 25, 69]) this.privateModes.delete(mode);
    this.keypad = false;
    this.insert = false;
    this.margins = false;
    this.charsets = { designated: new Map(), active: 0 };
  }

  #hardReset(): void {
    this.#softReset();
    this.privateModes.clear();
    this.#savedModes.clear();
    this.#savedCharsets = undefined;
    this.alternate = undefined;
    Object.assign(this.kitty.main, { pushed: 0, set: false });
    Object.assign(this.kitty.alternate, { pushed: 0, set: false });
    this.keyResources.clear();
    this.keyFormat = false;
    this.newlineMode = false;
    this.cursorShape = false;
    this.hyperlink = false;
    this.progress = false;
    this.otherCodingSystem = false;
    this.atLineStart = true;
  }
}
