import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ControlParser } from "./control-parser.ts";
import { ControlKey, DETACH_KEY, INTERRUPT_KEY } from "./control-key.ts";
import { ModeTracker, PRIVATE_MODES } from "./mode-tracker.ts";
import { undoSequence } from "./undo.ts";

/** Written by every undo: attributes off, cursor shown. */
const HARMLESS = "\x1b[0m\x1b[?25h";

function tracked(output: string, cuts: readonly number[] = []): ModeTracker {
  const bytes = Buffer.from(output, "latin1");
  const tracker = new ModeTracker(24);
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((left, right) => left - right), bytes.length];
  places.slice(1).forEach((end, index) => tracker.feed(bytes.subarray(places[index] ?? 0, end)));
  return tracker;
}

/** What undoing `output` writes beside the harmless resets. */
function undo(output: string): string {
  const sequence = undoSequence(tracked(output));
  expect(sequence.endsWith(HARMLESS)).toBe(true);
  return sequence.slice(0, -HARMLESS.length);
}

/** Sequences that programs write, whole and broken ones. */
const sequence = fc.oneof(
  fc
    .tuple(fc.constantFrom(...PRIVATE_MODES.keys(), 47, 1047, 1048, 1049, 12, 1, 7777), fc.constantFrom("h", "l", "s", "r"))
    .map(([mode, final]) => `\x1b[?${mode}${final}`),
  fc.constantFrom(
    "\x1b[?1000;1006;2004h",
    "\x1b=",
    "\x1b>",
    "\x1b7",
    "\x1b8",
    "\x1bc",
    "\x1b[!p",
    "\x1b(0",
    "\x1b)0",
    "\x1b(B",
    "\x0e",
    "\x0f",
    "\x1b-A",
    "\x1b%@",
    "\x1b%G",
  ),
  fc.constantFrom(
    "\x1b[>1u",
    "\x1b[<u",
    "\x1b[<3u",
    "\x1b[=5u",
    "\x1b[=0u",
    "\x1b[=1;3u",
    "\x1b[>4;2m",
    "\x1b[>4m",
    "\x1b[>m",
    "\x1b[>4;1f",
    "\x1b[>4f",
    "\x1b[>1n",
  ),
  fc.constantFrom(
    "\x1b[5;10r",
    "\x1b[r",
    "\x1b[1;24r",
    "\x1b[4h",
    "\x1b[4l",
    "\x1b[20h",
    "\x1b[3 q",
    "\x1b[0 q",
    "\x1b[2J",
    "\x1b[5;5H",
    "\x1b[38:2::1:2:3m",
    "\r\n",
    "\n",
    "\r",
  ),
  fc.constantFrom(
    "\x1b]4;1;red\x07",
    "\x1b]10;?\x1b\\",
    "\x1b]11;#123\x1b\\",
    "\x1b]110\x07",
    "\x1b]8;;http://x\x1b\\",
    "\x1b]8;;\x1b\\",
    "\x1b]9;4;1;50\x07",
    "\x1b]9;4;0\x07",
    "\x1b]0;title\x07",
  ),
  fc.constantFrom(
    "\x1bP+q544e\x1b\\",
    "\x1b_Gf=100;[?1049h\x1b\\",
    "\x1b[?10\x1849h",
    "\x1b[?1000\x1b[?25l",
    "\x1b]2;x\x1b[?7l",
    "\x1b",
    "\x1b[",
    "\x1b[?",
    "\x1b]",
    "\x1bP",
  ),
  fc.string({ unit: "grapheme", maxLength: 5 }).map((text) => Buffer.from(text).toString("latin1")),
  fc.string({ unit: "binary", maxLength: 4 }).map((text) => Buffer.from(text).toString("latin1")),
);
const output = fc.array(sequence, { maxLength: 25 }).map((parts) => parts.join(""));

describe("ControlParser", () => {
  test("[CLI-32] any chunking of any bytes gives the same controls", () => {
    const events = (bytes: Uint8Array, cuts: readonly number[]): string[] => {
      const seen: string[] = [];
      let text = "";
      const flush = (): void => {
        if (text !== "") seen.push(`text ${text}`);
        text = "";
      };
      const note = (event: string): void => {
        flush();
        seen.push(event);
      };
      const parser = new ControlParser({
        text: (piece) => (text += Buffer.from(piece).toString("latin1")),
        escape: (intermediates, final) => note(`escape ${intermediates} ${final}`),
        csi: (...parts) => note(`csi ${parts.join(" ")}`),
        osc: (string) => note(`osc ${string}`),
      });
      const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((left, right) => left - right), bytes.length];
      places.slice(1).forEach((end, index) => parser.feed(bytes.subarray(places[index] ?? 0, end)));
      flush();
      return [...seen, parser.unfinished];
    };
    fc.assert(
      fc.property(output, fc.array(fc.nat(), { maxLength: 30 }), (text, cuts) => {
        const bytes = Buffer.from(text, "latin1");
        expect(events(bytes, cuts)).toEqual(events(bytes, []));
      }),
    );
  });

  test("[CLI-32] what is inside strings is no control", () => {
    expect(undo("\x1bP[?1000h\x1b\\\x1b_[?1049h\x1b\\\x1b]2;[?25l\x07\x1b^x\x1b\\")).toBe("");
  });
});

describe("ModeTracker and undo", () => {
  test("[CLI-32] any chunking of the output gives the same undo", () => {
    fc.assert(
      fc.property(output, fc.array(fc.nat(), { maxLength: 30 }), (text, cuts) => {
        const whole = tracked(text);
        const parts = tracked(text, cuts);
        expect(undoSequence(parts)).toBe(undoSequence(whole));
        expect([parts.leavesFreshLine, parts.sendsReports]).toEqual([whole.leavesFreshLine, whole.sendsReports]);
      }),
    );
  });

  test("[CLI-32] output followed by its undo leaves nothing to undo", () => {
    fc.assert(
      fc.property(output, (text) => {
        expect(undo(text + undoSequence(tracked(text)))).toBe("");
      }),
      { numRuns: 500 },
    );
  });

  test("[CLI-32] nothing is undone that the remote left alone or put back itself", () => {
    expect(undo("plain text \x1b[1;32mcolour\x1b[m\x1b[5;5H\x1b[2J\x1b]0;title\x07")).toBe("");
    expect(undo("\x1b[?1049h\x1b[?1000;1006h\x1b[>1u\x1b[2;5r\x1b[<u\x1b[r\x1b[?1006;1000l\x1b[?1049l")).toBe("");
    expect(undo("\x1b[?25l\x1b[?7l\x1b=\x1b[?1h\x1bc")).toBe("");
  });

  test.each([
    ["\x1b[?1003h", "\x1b[?1003l"],
    ["\x1b[?7l", "\x1b[?7h"],
    ["\x1b[?1000s\x1b[?1000h\x1b[?1000r", ""],
    ["\x1b[?1000h\x1b[?1000s\x1b[?1000l\x1b[?1000r", "\x1b[?1000l"],
    ["\x1b[?2026h", "\x1b[?2026l"],
    ["\x1b[?1047h", "\x1b[?1047l"],
    ["\x1b=", "\x1b>"],
    ["\x1b[?66h", "\x1b>"],
    ["\x1b[4;20h", "\x1b[4l\x1b[20l"],
    ["\x1b[5 q", "\x1b[0 q"],
    ["\x1b[?12h", "\x1b[0 q"],
    ["\x1b[3;9r", "\x1b7\x1b[r\x1b8"],
    ["\x1b[1;24r", ""],
    ["\x1b[?6h", "\x1b[?6l\x1b[999;1H"],
    ["\x1b[?1049h\x1b[?6h\x1b[3;9r", "\x1b[?6l\x1b[r\x1b[?1049l"],
    ["\x1b(0", "\x1b(B"],
    ["\x1b)0\x0e", "\x1b)B\x0f"],
    ["\x1b-A", "\x1b)B"],
    ["\x1b%@", "\x1b%G"],
    ["\x1b[>1u\x1b[>3u\x1b[<u", "\x1b[<1u"],
    ["\x1b[=5u", "\x1b[=0u"],
    ["\x1b[>1u\x1b[=5u", "\x1b[<1u"],
    ["\x1b[>1u\x1b[?1049h\x1b[>2u", "\x1b[<1u\x1b[?1049l\x1b[<1u"],
    ["\x1b[?1049h\x1b[>2u\x1b[?1049l", "\x1b[?1049h\x1b[<1u\x1b[?1049l"],
    ["\x1b[>4;2m", "\x1b[>4m"],
    ["\x1b]8;id=1;http://x\x1b\\", "\x1b]8;;\x1b\\"],
    ["\x1b]9;4;3\x07", "\x1b]9;4;0\x1b\\"],
    ["\x1b]11;#000;red\x07", "\x1b]111\x1b\\\x1b]112\x1b\\"],
    ["\x1b]4;7;?\x07\x1b]10;?\x07", ""],
    ["\x1b[?10", "\x18"],
    ["\x1b]2;half", "\x18\x1b\\"],
  ])("[CLI-32][CLI-38] %j is undone by %j", (text, undone) => {
    expect(undo(text)).toBe(undone);
  });

  test.each([
    ["", true],
    ["$ ", false],
    ["$ exit\r\n", true],
    ["$ exit\r\n\x1b[?2004l\r", true],
    ["50%\r", false],
    ["a\n\x1b[5A", false],
    ["a\r\n\x1b[?1049hfull", true],
    ["a\x1b[?1049hfull\r\n", false],
    ["a\r\n\x1b[?1049hx\x1b[?1049l", true],
    ["a\r\n\x1b[?47hx", false],
  ])("[CLI-35] after %j the cursor is on a fresh line: %s", (text, fresh) => {
    expect(tracked(text).leavesFreshLine).toBe(fresh);
  });

  test("[CLI-32] endless strings and deep stacks take no endless memory", () => {
    const tracker = tracked(`\x1b]52;c;${"A".repeat(1_000_000)}`);
    expect(tracker.unfinished).toBe("string");
    expect(undo("\x1b[>1u".repeat(1000))).toBe("\x1b[<64u");
  });
});

describe("ControlKey", () => {
  const find = (text: string): number | undefined => new ControlKey(DETACH_KEY).find(Buffer.from(text, "latin1"));

  test.each([
    ["\x1c", 0],
    ["ls\x1cx", 2],
    ["a\x1b[92;5u", 1],
    ["\x1b[92;69u", 0], // with caps lock
    ["\x1b[92;5:1u", 0],
    ["\x1b[92:124;5;92u", 0],
    ["\x1b[27;5;92~", 0],
    ["\x1b[200~paste\x1b[201~\x1c", 17],
  ])("[CLI-34] is in %j at %i", (text, at) => {
    expect(find(text)).toBe(at);
  });

  test.each([
    "\\",
    "\x1b",
    "\x1b[92u",
    "\x1b[92;5:3u",
    "\x1b[92;6u",
    "\x1b[93;5u",
    "\x1b[27;5;93~",
    "\x1b[200~a\x1cb",
    "\x1b[200~\x1b[92;5u\x1b[201~",
    "\x1b[A",
  ])("[CLI-34] is not in %j", (text) => {
    expect(find(text)).toBeUndefined();
  });

  test("[CLI-34] is found over pieces; only its last piece is held back", () => {
    const key = new ControlKey(DETACH_KEY);
    expect(key.find(Buffer.from("x\x1b[9"))).toBeUndefined();
    expect(key.find(Buffer.from("2;5u"))).toBe(0);
  });

  test.each([
    ["ls\x03x", 2],
    ["\x1b[99;5u", 0],
    ["\x1b[27;5;99~", 0],
    ["\x1b[200~a\x03\x1b[201~", undefined],
    ["\x1c", undefined],
  ])("[CLI-46] Ctrl-C in %j is at %s", (text, at) => {
    expect(new ControlKey(INTERRUPT_KEY).find(Buffer.from(text, "latin1"))).toBe(at);
  });
});
