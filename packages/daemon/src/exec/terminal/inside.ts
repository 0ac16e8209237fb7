/**
 * What a picture needs of the terminal library and its public interface does not tell: attributes
 * of the next character, scroll margins, the saved cursor, the character set. The library's
 * version is pinned for this; `insideOf` throws when the shape is not the expected one.
 *
 * Invariants: only read here.
 */
import { assert } from "@sprited/base";
import type { IBufferCell, Terminal } from "@xterm/headless";

/** Attributes as cells and the pen have them. */
export type Attributes = Pick<
  IBufferCell,
  | "getFgColor"
  | "getBgColor"
  | "isFgRGB"
  | "isBgRGB"
  | "isFgPalette"
  | "isBgPalette"
  | "isBold"
  | "isDim"
  | "isItalic"
  | "isBlink"
  | "isInverse"
  | "isInvisible"
  | "isStrikethrough"
  | "isOverline"
> & {
  /** Whether `extended` is this cell's own; otherwise it has none of it. */
  hasExtendedAttrs(): number;
  /** `_ext`: bits 26 to 28 are the underline: 1 single, 2 double, 3 curly, 4 dotted, 5 dashed. `urlId`: the hyperlink, 0: none. */
  extended: { _ext: number; urlId: number };
  getUnderlineColor(): number;
  isUnderlineColorRGB(): boolean;
  isUnderlineColorPalette(): boolean;
};

/** One of the two screens. */
export interface InnerBuffer {
  /** First and last row that scroll, from 0. */
  scrollTop: number;
  scrollBottom: number;
  /** Lines above the screen. */
  ybase: number;
  savedX: number;
  /** Counted from the oldest line kept. */
  savedY: number;
  savedCurAttrData: Attributes;
}

export interface Hyperlink {
  uri: string;
  id?: string | undefined;
}

interface Inside {
  _inputHandler: { _curAttrData: Attributes; _parser: { precedingJoinState: number } };
  _bufferService: { buffer: InnerBuffer; buffers: { normal: InnerBuffer; alt: InnerBuffer } };
  _oscLinkService: { getLinkData(urlId: number): Hyperlink | undefined };
  _charsetService: { charset?: Record<string, string> | undefined };
}

/** The parts of the library that have no public name. */
export interface TerminalInside {
  pen(): Attributes;
  normal(): InnerBuffer;
  active(): InnerBuffer;
  /** The hyperlink behind a cell's `urlId`. */
  link(urlId: number): Hyperlink | undefined;
  /** Whether the last output was a character, so that the next one may still combine with it. */
  mayCombine(): boolean;
  /** Whether letters draw lines at the moment. */
  drawsLines(): boolean;
}

export function insideOf(terminal: Terminal): TerminalInside {
  const core = (terminal as unknown as { _core?: Inside })._core;
  assert(core?._inputHandler?._curAttrData && core._bufferService?.buffers?.normal && core._charsetService, "unexpected terminal library");
  return {
    pen: () => core._inputHandler._curAttrData,
    normal: () => core._bufferService.buffers.normal,
    active: () => core._bufferService.buffer,
    link: (urlId) => (urlId === 0 ? undefined : core._oscLinkService.getLinkData(urlId)),
    mayCombine: () => core._inputHandler._parser.precedingJoinState !== 0,
    drawsLines: () => core._charsetService.charset?.["q"] === "─",
  };
}
