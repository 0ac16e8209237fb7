/**
 * Keeps hostile output from hurting the daemon through the terminal library: counts that would
 * make it loop for minutes are cut to what can show, and what it throws is caught.
 *
 * Invariants: no output throws; one sequence costs at most what a full screen costs.
 */
import { assert } from "@sprited/base";
import type { Terminal } from "@xterm/headless";

type Sequence = (parameters: { params: number[] }) => boolean;

interface Handler {
  parse(data: Uint8Array): unknown;
  _parser: { reset(): void };
  insertLines: Sequence;
  deleteLines: Sequence;
  scrollUp: Sequence;
  scrollDown: Sequence;
  cursorForwardTab: Sequence;
  cursorBackwardTab: Sequence;
  repeatPrecedingCharacter: Sequence;
  eraseInDisplay: Sequence;
}

/** Sequences that the library repeats as often as they say. */
const REPEATED = {
  L: "insertLines",
  M: "deleteLines",
  S: "scrollUp",
  T: "scrollDown",
  I: "cursorForwardTab",
  Z: "cursorBackwardTab",
} as const;

/** Installs the limits; the result parses output at once and never throws. */
export function guarded(terminal: Terminal): (data: Uint8Array) => void {
  const handler = (terminal as unknown as { _core?: { _inputHandler?: Handler } })._core?._inputHandler;
  assert(handler && typeof handler.parse === "function" && typeof handler.eraseInDisplay === "function", "unexpected terminal library");
  const limit = (final: string, name: (typeof REPEATED)[keyof typeof REPEATED] | "repeatPrecedingCharacter", most: () => number): void => {
    terminal.parser.registerCsiHandler({ final }, ([count]) => {
      if (typeof count !== "number" || count <= most()) return false;
      return handler[name]({ params: [most()] });
    });
  };
  for (const [final, name] of Object.entries(REPEATED)) limit(final, name, () => Math.max(terminal.rows, terminal.cols));
  limit("b", "repeatPrecedingCharacter", () => terminal.rows * terminal.cols);
  terminal.parser.registerCsiHandler({ final: "J" }, ([what]) => {
    if (what !== 1) return false;
    try {
      handler.eraseInDisplay({ params: [1] });
    } catch {
      // At the last cell of the last line it fails after it has erased.
    }
    return true;
  });
  return (data) => {
    try {
      handler.parse(data);
    } catch {
      // A fault of the library; the picture lacks the rest of this piece until it is drawn anew.
      handler._parser.reset();
    }
  };
}
