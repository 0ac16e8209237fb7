import xterm from "@xterm/headless";
import type { Terminal } from "@xterm/headless";
import fc from "fast-check";
import { expect, test } from "vitest";
import { createScreen } from "./screen.ts";

const SIZE = { cols: 20, rows: 6 };
const SCROLLBACK = 30;

function freshTerminal(size = SIZE): Terminal {
  return new xterm.Terminal({ ...size, scrollback: SCROLLBACK, allowProposedApi: true });
}

function put(terminal: Terminal, data: Uint8Array | string): Promise<void> {
  return new Promise((resolve) => terminal.write(data, resolve));
}

/** What a person sees of both screens, and what the next output depends on. */
function look(terminal: Terminal): unknown {
  const { active, normal } = terminal.buffer;
  const lines = (buffer: typeof active): string[] => {
    const cell = buffer.getNullCell();
    return Array.from({ length: buffer.length }, (_, row) => {
      const parts: string[] = [];
      for (let column = 0; column < terminal.cols; column++) {
        const at = buffer.getLine(row)?.getCell(column, cell);
        if (!at || at.getWidth() === 0) continue;
        const style = [at.isBold(), at.isDim(), at.isItalic(), at.isUnderline(), at.isInverse(), at.isStrikethrough(), at.isOverline()];
        const blank = at.getChars().trim() === "";
        const colours = [at.getBgColorMode(), at.getBgColor(), ...(blank ? [] : [at.getFgColorMode(), at.getFgColor()])];
        const flags = blank ? [at.isInverse()] : style;
        parts.push(`${at.getChars() || " "}${colours.join(",")}${flags.map(Number).join("")}`);
      }
      return parts.join("|");
    });
  };
  const { synchronizedOutputMode: _, ...modes } = terminal.modes;
  return {
    type: active.type,
    cursor: [active.cursorX, active.cursorY, active.baseY],
    normal: lines(normal),
    active: active.type === "alternate" ? lines(active) : [],
    modes,
  };
}

const number = (max: number): fc.Arbitrary<number> => fc.integer({ min: 1, max });
const csi = (final: string, ...parameters: fc.Arbitrary<number>[]): fc.Arbitrary<string> =>
  fc.tuple(...parameters).map((values) => `\x1b[${values.join(";")}${final}`);

const step = fc.oneof(
  { weight: 6, arbitrary: fc.stringMatching(/^[a-z ]{1,30}$/) },
  fc.constantFrom("日本", "é", "e\u0301", "🎉", "ü日", "│"),
  fc.constantFrom("\r\n", "\r\n\r\n\r\n", "\n", "\r", "\b", "\t", "\x1bM", "\x1bD", "\x1bE", "\x1b7", "\x1b8"),
  csi("H", number(7), number(22)),
  fc.constantFrom("A", "B", "C", "D").chain((final) => csi(final, number(9))),
  fc.constantFrom("\x1b[J", "\x1b[2J", "\x1b[K", "\x1b[1K", "\x1b[2K"),
  fc.constantFrom("L", "M", "P", "@", "X", "S", "T").chain((final) => csi(final, number(4))),
  fc
    .constantFrom(
      "0",
      "1",
      "2",
      "3",
      "4",
      "4:3",
      "7",
      "9",
      "53",
      "22",
      "24",
      "27",
      "31",
      "42",
      "97",
      "101",
      "39",
      "49",
      "38;5;200",
      "48;5;17",
      "38;2;1;2;3",
      "48;2;9;8;7",
      "58;5;3",
    )
    .map((code) => `\x1b[${code}m`),
  csi("r", number(3), fc.integer({ min: 4, max: 6 })),
  fc.constantFrom("\x1b[r", "\x1b[?1049h", "\x1b[?1049l", "\x1b[?6h", "\x1b[?6l", "\x1b[?7l", "\x1b[?7h", "\x1b[!p"),
  fc.constantFrom(
    "\x1b(0",
    "\x1b(B",
    "\x1b[?25l",
    "\x1b[?1h",
    "\x1b=",
    "\x1b[?2004h",
    "\x1b[?1002h",
    "\x1b[?1006h",
    "\x1b[?1000l",
    "\x1b[?1004h",
  ),
  fc.constantFrom("\x1b]0;a title é\x07", "\x1b]2;other\x1b\\", "\x1bP1$r0m\x1b\\", "\x1bc", "\x1b]8;;http://x/\x1b\\link\x1b]8;;\x1b\\"),
);
const script = fc.array(step, { maxLength: 60 }).map((steps) => steps.join(""));

async function screenAfter(chunks: readonly Uint8Array[], size = SIZE): Promise<Uint8Array> {
  const screen = createScreen({ ...size, scrollbackLines: SCROLLBACK });
  for (const chunk of chunks) await screen.write(chunk);
  const picture = screen.serialize();
  screen.dispose();
  return picture;
}

test("a picture taken at any byte draws the same cells, cursor and modes, and what follows goes on alike", async () => {
  const rounds = fc.asyncProperty(script, script, fc.nat(), fc.nat(), async (before, after, cut, split) => {
    const all = Buffer.from(before + after);
    const at = all.length === 0 ? 0 : cut % (all.length + 1);
    const middle = at === 0 ? 0 : split % (at + 1);
    const whole = freshTerminal();
    await put(whole, all.subarray(0, at));
    const redrawn = freshTerminal();
    await put(redrawn, await screenAfter([all.subarray(0, middle), all.subarray(middle, at)]));
    expect(look(redrawn)).toEqual(look(whole));
    await put(whole, all.subarray(at));
    await put(redrawn, all.subarray(at));
    expect(look(redrawn)).toEqual(look(whole));
  });
  await fc.assert(rounds, { numRuns: 150 });
});

test("insert mode goes on behind the picture", async () => {
  const terminal = freshTerminal();
  await put(terminal, await screenAfter([Buffer.from("abc\x1b[4h\x1b[1;2H")]));
  await put(terminal, "xy");
  expect(terminal.buffer.active.getLine(0)?.translateToString(true)).toBe("axybc");
});

test("modes that the library does not know are set again for the user's terminal", async () => {
  const picture = Buffer.from(
    await screenAfter([Buffer.from("\x1b[>1u\x1b[>5u\x1b[<1u\x1b[>4;2m\x1b[5 q\x1b[?2031h\x1b[?25l\x1b[?1003h\x1b[?1006h")]),
  ).toString();
  for (const sequence of ["\x1b[>1u", "\x1b[>4;2m", "\x1b[5 q", "\x1b[?2031h", "\x1b[?25l", "\x1b[?1003h\x1b[?1006h"])
    expect(picture).toContain(sequence);
  expect(picture).not.toContain("\x1b[>5u");
});

test("of a string without end only the introducer is kept, and its end is found", async () => {
  const long = Buffer.from(`ab\x1b]52;c;${"A".repeat(300_000)}`);
  const picture = await screenAfter([long.subarray(0, 100_000), long.subarray(100_000)]);
  expect(picture.length).toBeLessThan(2000);
  const terminal = freshTerminal();
  await put(terminal, picture);
  await put(terminal, "AAAA\x07cd");
  expect(terminal.buffer.active.getLine(0)?.translateToString(true)).toBe("abcd");
});

test("after a resize the picture is the one of the new size", async () => {
  const screen = createScreen({ ...SIZE, scrollbackLines: SCROLLBACK });
  const whole = freshTerminal();
  for (const text of ["a long line that runs on into the next one\r\n\x1b[31mred", "\x1b[?1049h\x1b[2;3Hinside"]) {
    await screen.write(Buffer.from(text));
    await put(whole, text);
    screen.resize({ cols: 33, rows: 9 });
    whole.resize(33, 9);
  }
  const redrawn = freshTerminal({ cols: 33, rows: 9 });
  await put(redrawn, screen.serialize());
  expect(look(redrawn)).toEqual(look(whole));
});

test("scrollback is bounded and sizes out of range are cut to what is kept", async () => {
  const screen = createScreen({ cols: 0, rows: 100_000, scrollbackLines: 5 });
  screen.resize({ cols: 80, rows: 2 });
  await screen.write(Buffer.from(Array.from({ length: 5000 }, (_, line) => `line ${line}\r\n`).join("")));
  const text = Buffer.from(screen.serialize()).toString();
  expect(text.split("\r\n")).toHaveLength(7);
  expect(text).toContain("line 4999");
});

test("no output throws or takes long", async () => {
  const counts = ["L", "M", "S", "T", "I", "Z", "b", "@", "P", "X", "A", "B", "C", "D", "d", "G", "e", "a"].map(
    (final) => `x\x1b[2147483647${final}`,
  );
  const picture = await screenAfter([Buffer.from(`${counts.join("")}\x1b[6;20H\x1b[1Jend`)]);
  expect(Buffer.from(picture).toString()).toContain("end");
});
