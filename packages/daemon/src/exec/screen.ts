/**
 * The picture of a session's terminal: fed with its output, it can be asked at any moment for
 * bytes that draw the same picture on another terminal (EXEC rules on reattaching).
 *
 * Invariants: the picture holds exactly the output whose `write` has resolved, also when that ends
 * within a sequence or a character; memory is bounded by size and scrollback; nothing that the
 * output asks the terminal for is answered.
 */
import type { Terminal } from "@xterm/headless";
import xterm from "@xterm/headless";
import { attributeSequence, LineWriter, linkOf, linkSequence, PLAIN } from "./terminal/cells.ts";
import { guarded } from "./terminal/guard.ts";
import { insideOf, type TerminalInside } from "./terminal/inside.ts";
import { Modes } from "./terminal/modes.ts";
import { Unfinished } from "./terminal/unfinished.ts";

/** Largest terminal kept a picture of, cells each way. */
const COLS_MAX = 1000;
const ROWS_MAX = 500;

export interface ScreenSize {
  cols: number;
  rows: number;
}

export interface Screen {
  /** Takes the next output; resolves once the picture holds it. */
  write(data: Uint8Array): Promise<void>;
  resize(size: ScreenSize): void;
  /** Bytes that, written to a terminal of the same size, draw the picture: scrollback, screen, cursor, modes. */
  serialize(): Uint8Array;
  dispose(): void;
}

/** `scrollbackLines`: lines kept above the screen. */
export function createScreen(options: ScreenSize & { scrollbackLines: number }): Screen {
  const terminal = new xterm.Terminal({
    ...bounded(options),
    scrollback: options.scrollbackLines,
    allowProposedApi: true,
    logLevel: "off",
  });
  const parse = guarded(terminal);
  const parts: PictureParts = { terminal, inside: insideOf(terminal), modes: new Modes(terminal), unfinished: new Unfinished() };
  return {
    write: async (data) => {
      parse(data);
      parts.unfinished.feed(data);
    },
    resize: (size) => {
      const { cols, rows } = bounded(size);
      terminal.resize(cols, rows);
    },
    serialize: () => Buffer.concat([Buffer.from(picture(parts)), parts.unfinished.bytes()]),
    dispose: () => terminal.dispose(),
  };
}

interface PictureParts {
  terminal: Terminal;
  inside: TerminalInside;
  modes: Modes;
  unfinished: Unfinished;
}

function picture({ terminal, inside, modes }: PictureParts): string {
  const { normal, alternate, active } = terminal.buffer;
  const onAlternate = active.type === "alternate";
  const margins = inside.active();
  const origin = modes.has(6) ? margins.scrollTop : 0;
  return [
    `${PLAIN}\x1b[H\x1b[2J`,
    new LineWriter(normal, inside.link).all(),
    modes.kittySequence("main"),
    savedCursor(inside.normal()),
    // Entering the alternate screen saves the cursor by itself, leaving it puts it back.
    onAlternate ? `\x1b[?1049h${PLAIN}\x1b[2J` : PLAIN,
    onAlternate
      ? new LineWriter(alternate, inside.link).screen(terminal.rows) +
        modes.kittySequence("alternate") +
        savedCursor(inside.active()) +
        PLAIN
      : "",
    margins.scrollTop > 0 || margins.scrollBottom < terminal.rows - 1 ? `\x1b[${margins.scrollTop + 1};${margins.scrollBottom + 1}r` : "",
    modes.has(6) ? "\x1b[?6h" : "",
    modes.sequence(),
    pen(terminal, inside, origin),
    modes.has(7) ? "" : "\x1b[?7l",
    modes.insert ? "\x1b[4h" : "",
  ].join("");
}

/** Puts the cursor where it was saved, with the attributes of then, and saves it. */
function savedCursor(buffer: ReturnType<TerminalInside["active"]>): string {
  const row = Math.max(0, buffer.savedY - buffer.ybase);
  return `\x1b[${row + 1};${buffer.savedX + 1}H${attributeSequence(buffer.savedCurAttrData)}\x1b7`;
}

/**
 * The cursor and how the next character is drawn. Beyond the last column, and where the next
 * character may combine with the last one, there is no way but to write the last one again.
 */
function pen(terminal: Terminal, inside: TerminalInside, origin: number): string {
  const { active } = terminal.buffer;
  const { cursorX, cursorY, baseY } = active;
  const attributes = linkSequence(inside.link(linkOf(inside.pen()))) + attributeSequence(inside.pen());
  const charset = inside.drawsLines() ? "\x1b(0" : "";
  const at = (column: number): string => `\x1b[${cursorY - origin + 1};${column + 1}H`;
  if (cursorX < terminal.cols && !(inside.mayCombine() && cursorX > 0)) return at(cursorX) + attributes + charset;
  const line = active.getLine(baseY + cursorY);
  const column = line?.getCell(cursorX - 1)?.getWidth() === 0 ? cursorX - 2 : cursorX - 1;
  const cell = new LineWriter(active, inside.link).cell(baseY + cursorY, Math.max(0, column));
  return inside.mayCombine() ? charset + at(column) + cell : at(column) + cell + attributes + charset;
}

function bounded({ cols, rows }: ScreenSize): ScreenSize {
  return { cols: Math.min(Math.max(cols, 1), COLS_MAX), rows: Math.min(Math.max(rows, 1), ROWS_MAX) };
}
