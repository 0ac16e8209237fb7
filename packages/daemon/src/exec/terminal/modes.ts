/**
 * Modes of a terminal that its picture must set again, heard from the parser: also those that the
 * library itself does not know and a user's terminal does (kitty's keyboard flags, modifyOtherKeys).
 *
 * Invariants: only what differs from a terminal just switched on is remembered; memory is bounded;
 * listening changes nothing for the terminal itself.
 */
import type { Terminal } from "@xterm/headless";

/** DEC private modes kept, with their state in a terminal just switched on. */
const PRIVATE_MODES: ReadonlyMap<number, boolean> = new Map([
  [1, false], // application cursor keys
  [5, false], // reverse video
  [6, false], // origin
  [7, true], // autowrap
  [8, true], // auto-repeat
  [9, false], // mouse: X10
  [25, true], // cursor shown
  [45, false], // reverse wraparound
  [66, false], // application keypad
  ...[1000, 1001, 1002, 1003, 1005, 1006, 1015, 1016].map((mode): [number, boolean] => [mode, false]), // mouse
  [1004, false], // focus events
  [1007, true], // wheel as arrow keys on the alternate screen
  [2004, false], // bracketed paste
  [2031, false], // colour scheme reports
  [2048, false], // resize reports
]);
/** Modes of which one at a time is on; switching any of them off switches all off. */
const GROUPS = [
  [9, 1000, 1001, 1002, 1003],
  [1005, 1006, 1015, 1016],
];
/** What a soft reset puts back in this library; other terminals leave some of it alone. */
const SOFT_RESET_MODES = [1, 6, 7, 25, 45, 66, 1004, 2004];
/** Modes that need their place in the picture, written apart by it. */
const PLACED_MODES = new Set([6, 7]);
const KITTY_DEPTH_MAX = 16;
const KEY_RESOURCES = new Set([0, 1, 2, 3, 4, 6, 7]);
const KEY_VALUE_MAX = 64;
const TITLE_LENGTH_MAX = 1024;

type Parameters = readonly (number | number[])[];

export class Modes {
  readonly #private = new Map<number, boolean>();
  /** Kitty's flags: the entry in use last. The first stands for flags set without a push. */
  #kitty = { main: [0], alternate: [0] };
  readonly #keys = new Map<number, number>();
  /** Whether characters push what is right of them away. */
  insert = false;
  #newline = false;
  #cursorStyle = 0;
  #title = "";
  readonly #terminal: Terminal;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
    terminal.onTitleChange((title) => (this.#title = printable(title).slice(0, TITLE_LENGTH_MAX)));
    const csi = (id: { prefix?: string; intermediates?: string; final: string }, act: (parameters: Parameters) => void): void => {
      terminal.parser.registerCsiHandler(id, (parameters) => {
        act(parameters);
        return false;
      });
    };
    csi({ prefix: "?", final: "h" }, (modes) => this.#setPrivate(modes, true));
    csi({ prefix: "?", final: "l" }, (modes) => this.#setPrivate(modes, false));
    csi({ final: "h" }, (modes) => this.#setAnsi(modes, true));
    csi({ final: "l" }, (modes) => this.#setAnsi(modes, false));
    csi({ intermediates: " ", final: "q" }, ([style]) => (this.#cursorStyle = Math.min(number(style), 6)));
    csi({ intermediates: "!", final: "p" }, () => this.#softReset());
    csi({ prefix: ">", final: "m" }, (parameters) => this.#keyResource(parameters));
    csi({ prefix: ">", final: "u" }, ([flags]) => this.#kittyPush(number(flags)));
    csi({ prefix: "<", final: "u" }, ([count]) => this.#kittyPop(Math.max(1, number(count))));
    csi({ prefix: "=", final: "u" }, ([flags, how]) => this.#kittySet(number(flags), number(how) || 1));
    const escape = (final: string, act: () => void): void => {
      terminal.parser.registerEscHandler({ final }, () => {
        act();
        return false;
      });
    };
    escape("=", () => this.#put(66, true));
    escape(">", () => this.#put(66, false));
    escape("c", () => this.#reset());
  }

  /** The state of one private mode. */
  has(mode: number): boolean {
    return this.#private.get(mode) ?? PRIVATE_MODES.get(mode) ?? false;
  }

  /** Sets again what differs from a terminal just switched on, but the modes the picture places itself. */
  sequence(): string {
    return [
      ...[...this.#private].filter(([mode]) => !PLACED_MODES.has(mode)).map(([mode, on]) => `\x1b[?${mode}${on ? "h" : "l"}`),
      this.#newline ? "\x1b[20h" : "",
      this.#cursorStyle === 0 ? "" : `\x1b[${this.#cursorStyle} q`,
      ...[...this.#keys].map(([resource, value]) => `\x1b[>${resource};${value}m`),
      this.#title === "" ? "" : `\x1b]2;${this.#title}\x1b\\`,
    ].join("");
  }

  /** Keyboard flags of one screen; to be written while that screen is shown. */
  kittySequence(screen: "main" | "alternate"): string {
    const [first = 0, ...pushed] = this.#kitty[screen];
    return (first === 0 ? "" : `\x1b[=${first}u`) + pushed.map((flags) => `\x1b[>${flags}u`).join("");
  }

  #setPrivate(modes: Parameters, on: boolean): void {
    for (const mode of modes) this.#put(number(mode), on);
  }

  #put(mode: number, on: boolean): void {
    const usual = PRIVATE_MODES.get(mode);
    if (usual === undefined) return;
    for (const other of GROUPS.find((group) => group.includes(mode)) ?? [mode]) this.#private.delete(other);
    if (on !== usual) this.#private.set(mode, on);
  }

  #setAnsi(modes: Parameters, on: boolean): void {
    if (modes.includes(4)) this.insert = on;
    if (modes.includes(20)) this.#newline = on;
  }

  #keyResource(parameters: Parameters): void {
    const [resource, value] = parameters.map(number);
    if (resource === undefined) this.#keys.clear();
    else if (!value || value > KEY_VALUE_MAX) this.#keys.delete(resource);
    else if (KEY_RESOURCES.has(resource)) this.#keys.set(resource, value);
  }

  get #stack(): number[] {
    return this.#terminal.buffer.active.type === "alternate" ? this.#kitty.alternate : this.#kitty.main;
  }

  #kittyPush(flags: number): void {
    this.#stack.push(flags & 0x1f);
    if (this.#stack.length > KITTY_DEPTH_MAX) this.#stack.splice(1, 1);
  }

  #kittyPop(count: number): void {
    const stack = this.#stack;
    if (count >= stack.length) stack.splice(0, stack.length, 0);
    else stack.length -= count;
  }

  #kittySet(flags: number, how: number): void {
    const stack = this.#stack;
    const now = stack[stack.length - 1] ?? 0;
    stack[stack.length - 1] = 0x1f & (how === 2 ? now | flags : how === 3 ? now & ~flags : flags);
  }

  #softReset(): void {
    for (const mode of SOFT_RESET_MODES) this.#private.delete(mode);
    this.insert = false;
  }

  #reset(): void {
    this.#softReset();
    this.#private.clear();
    this.#kitty = { main: [0], alternate: [0] };
    this.#keys.clear();
    this.#newline = false;
    this.#cursorStyle = 0;
  }
}

function number(parameter: number | number[] | undefined): number {
  return typeof parameter === "number" ? parameter : 0;
}

/** Without control characters: the title goes into a sequence. */
function printable(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, "");
}
