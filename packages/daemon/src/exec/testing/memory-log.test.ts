import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { LogPiece } from "../exec.ts";
import { MEMORY_LOG_BYTES_MAX, MemoryLog } from "./memory-log.ts";
import { OffsetError, type OutputChunk } from "../log/session-log.ts";

function chunk(stream: "stdout" | "stderr", offset: number, text: string): OutputChunk {
  return { stream, offset, data: Buffer.from(text) };
}

async function readAll(pieces: AsyncIterable<LogPiece>): Promise<{ stdout: string; stderr: string }> {
  const text = { stdout: "", stderr: "" };
  for await (const piece of pieces) {
    if (piece.kind === "gap") throw new Error("a gap");
    expect(piece.offset).toBe(text[piece.stream].length);
    text[piece.stream] += Buffer.from(piece.data).toString("latin1");
  }
  return text;
}

const all = { from: "start", holdsBack: true } as const;

describe("memory log", () => {
  test("chunks sent again after a new link, cut anywhere, give every byte once and in order", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.boolean(), fc.string({ unit: "binary-ascii", minLength: 1, maxLength: 40 }), fc.nat(30)), { maxLength: 40 }),
        async (parts) => {
          const log = new MemoryLog();
          const reader = log.read(all);
          const sent = { stdout: "", stderr: "" };
          for (const [isError, text, back] of parts) {
            const stream = isError ? "stderr" : "stdout";
            const from = Math.max(0, sent[stream].length - back);
            const again = sent[stream].slice(from) + text;
            log.append({ stream, offset: from, data: Buffer.from(again, "latin1") });
            sent[stream] += text;
          }
          await log.close();
          expect(await readAll(reader.pieces)).toEqual(sent);
          expect(log.offsets).toEqual({ stdout: sent.stdout.length, stderr: sent.stderr.length });
        },
      ),
    );
  });

  test("a gap in the numbering is refused", () => {
    const log = new MemoryLog();
    log.append(chunk("stdout", 0, "abc"));
    expect(() => log.append(chunk("stdout", 4, "d"))).toThrow(OffsetError);
    log.append(chunk("stderr", 0, "x"));
  });

  test("a slow reader holds the writer back, and so does no reader; reading sets it free", async () => {
    const log = new MemoryLog();
    let offset = 0;
    const piece = new Uint8Array(64 * 1024);
    while (!log.isFull) {
      log.append({ stream: "stdout", offset, data: piece });
      offset += piece.length;
    }
    expect(log.bytes).toBeLessThanOrEqual(MEMORY_LOG_BYTES_MAX + piece.length + 1024);
    let free = false;
    const waiting = log.room().then(() => {
      free = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(free).toBe(false);
    const slow = log.read(all).pieces[Symbol.asyncIterator]();
    while (!free) {
      await slow.next();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await waiting;
  });

  test("a flood of one-byte chunks counts what it costs", () => {
    const log = new MemoryLog();
    let offset = 0;
    for (; !log.isFull; offset += 1) log.append({ stream: "stdout", offset, data: new Uint8Array(1) });
    expect(offset).toBeLessThan(10_000);
  });

  test("a reader ends only after the last byte that came before the end", async () => {
    const log = new MemoryLog();
    const text = readAll(log.read(all).pieces);
    await new Promise((resolve) => setImmediate(resolve));
    log.append(chunk("stdout", 0, "late"));
    await log.close();
    expect(await text).toEqual({ stdout: "late", stderr: "" });
  });

  test("two readers at their own pace see the same bytes, a third from a position within", async () => {
    const log = new MemoryLog();
    const first = readAll(log.read(all).pieces);
    log.append(chunk("stdout", 0, "one"));
    await new Promise((resolve) => setImmediate(resolve));
    const second = readAll(log.read(all).pieces);
    const third = log.read({ from: { position: 2 }, holdsBack: true });
    expect(third.position).toBe(2);
    log.append(chunk("stderr", 0, "two"));
    await log.close();
    expect(await first).toEqual({ stdout: "one", stderr: "two" });
    expect(await second).toEqual(await first);
    const pieces: LogPiece[] = [];
    for await (const piece of third.pieces) pieces.push(piece);
    expect(pieces).toMatchObject([
      { stream: "stdout", offset: 2, position: 2, data: Buffer.from("e") },
      { stream: "stderr", offset: 0, position: 3 },
    ]);
  });
});
