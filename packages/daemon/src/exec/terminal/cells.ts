/**
 * Lines of cells as bytes that draw them.
 *
 * Invariants: cells without content are drawn as spaces where something follows or a colour shows,
 * and left out at a line's end; attributes are written only where they change; a line that ran on
 * into the next one does so again.
 */
import type { IBuffer, IBufferCell, IBufferLine } from "@xterm/headless";
import type { Attributes, Hyperlink } from "./inside.ts";

/** Attributes of a terminal just switched on. */
export const PLAIN = "\x1b[0m";
/** Longest hyperlink drawn again, characters; a longer one is drawn as plain text. */
const LINK_LENGTH_MAX = 2048;
const NO_LINK = "\x1b]8;;\x1b\\";

/** The sequence that sets exactly these attributes, whatever was set before. */
export function attributeSequence(cell: Attributes): string {
  const codes = ["0"];
  if (cell.isBold()) codes.push("1");
  if (cell.isDim()) codes.push("2");
  if (cell.isItalic()) codes.push("3");
  const underline = cell.hasExtendedAttrs() ? (cell.extended._ext >>> 26) & 7 : 0;
  if (underline > 0) codes.push(underline > 1 ? `4:${underline}` : "4");
  if (cell.isBlink()) codes.push("5");
  if (cell.isInverse()) codes.push("7");
  if (cell.isInvisible()) codes.push("8");
  if (cell.isStrikethrough()) codes.push("9");
  if (cell.isOverline()) codes.push("53");
  codes.push(...colour(cell.getFgColor(), { rgb: cell.isFgRGB(), palette: cell.isFgPalette(), base: 30 }));
  codes.push(...colour(cell.getBgColor(), { rgb: cell.isBgRGB(), palette: cell.isBgPalette(), base: 40 }));
  if (underline > 0) codes.push(...underlineColour(cell));
  return `\x1b[${codes.join(";")}m`;
}

/** The sequence that makes what follows lead somewhere, or nowhere. */
export function linkSequence(link: Hyperlink | undefined): string {
  if (!link || link.uri.length + (link.id ?? "").length > LINK_LENGTH_MAX) return NO_LINK;
  return `\x1b]8;${link.id === undefined ? "" : `id=${link.id}`};${link.uri}\x1b\\`;
}

/** Number of the hyperlink a cell belongs to; 0: none. */
export function linkOf(cell: Attributes): number {
  return cell.hasExtendedAttrs() ? cell.extended.urlId : 0;
}

function colour(value: number, { rgb, palette, base }: { rgb: boolean; palette: boolean; base: number }): string[] {
  if (rgb) return [`${base + 8};2;${rgbParts(value).join(";")}`];
  if (!palette) return [];
  if (value < 8) return [`${base + value}`];
  return [value < 16 ? `${base + 60 + value - 8}` : `${base + 8};5;${value}`];
}

function underlineColour(cell: Attributes): string[] {
  const value = cell.getUnderlineColor();
  if (cell.isUnderlineColorRGB()) return [`58:2::${rgbParts(value).join(":")}`];
  return cell.isUnderlineColorPalette() ? [`58:5:${value}`] : [];
}

function rgbParts(value: number): number[] {
  return [(value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff];
}

/** Draws lines, remembering which attributes the terminal has at the moment. */
export class LineWriter {
  readonly #buffer: IBuffer;
  readonly #cell: IBufferCell & Attributes;
  readonly #linkById: (urlId: number) => Hyperlink | undefined;
  #set = PLAIN;
  #link = NO_LINK;

  constructor(buffer: IBuffer, linkById: (urlId: number) => Hyperlink | undefined) {
    this.#buffer = buffer;
    this.#linkById = linkById;
    this.#cell = buffer.getNullCell() as IBufferCell & Attributes;
  }

  /** Every line from the oldest kept, beginning at the top left of an empty screen. */
  all(): string {
    const parts: string[] = [];
    for (let row = 0; row < this.#buffer.length; row++) {
      const line = this.#buffer.getLine(row);
      if (!line) continue;
      const runsOn = this.#buffer.getLine(row + 1)?.isWrapped ?? false;
      parts.push(this.#line(line, { whole: runsOn, wrapped: line.isWrapped }));
      if (!runsOn && row + 1 < this.#buffer.length) parts.push(this.#plain(), "\r\n");
    }
    return parts.join("") + this.#plain();
  }

  /** The lines on the screen, each put in its place. */
  screen(rows: number): string {
    const parts: string[] = [];
    for (let row = 0; row < rows; row++) {
      const line = this.#buffer.getLine(this.#buffer.baseY + row);
      const text = line ? this.#line(line, { whole: false, wrapped: false }) : "";
      if (text !== "") parts.push(`\x1b[${row + 1};1H`, text);
    }
    return parts.join("") + this.#plain();
  }

  /** One cell with its attributes; the attributes stay set. */
  cell(row: number, column: number): string {
    const cell = this.#buffer.getLine(row)?.getCell(column, this.#cell);
    return cell ? this.#attributes(this.#cell) + (cell.getChars() || " ") : "";
  }

  #line(line: IBufferLine, { whole, wrapped }: { whole: boolean; wrapped: boolean }): string {
    let text = "";
    let pending = 0;
    for (let column = 0; column < line.length; column++) {
      const cell = line.getCell(column, this.#cell);
      if (!cell || cell.getWidth() === 0) continue;
      // A line that was run into must hold something, or nothing makes the terminal go there.
      const forced = whole || (wrapped && column === 0);
      if (!forced && cell.getChars() === "" && cell.isBgDefault() && !cell.isInverse()) {
        pending += 1;
        continue;
      }
      if (pending > 0) text += this.#plain() + " ".repeat(pending);
      pending = 0;
      text += this.#attributes(this.#cell) + (cell.getChars() || " ");
    }
    // Running into a new line at the bottom colours it to its end with the attributes of that moment.
    return wrapped && pending > 0 ? `${text}${this.#plain()}\x1b[K` : text;
  }

  #plain(): string {
    return this.#change(PLAIN, NO_LINK);
  }

  #attributes(cell: Attributes): string {
    return this.#change(attributeSequence(cell), linkSequence(this.#linkById(linkOf(cell))));
  }

  #change(set: string, link: string): string {
    const changed = (link === this.#link ? "" : link) + (set === this.#set ? "" : set);
    this.#set = set;
    this.#link = link;
    return changed;
  }
}
