import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { OutputChunk } from "./exec.ts";
import { OffsetError, OutputLog, SESSION_HELD_BYTES_MAX } from "./output-log.ts";

function chunk(stream: "stdout" | "stderr", offset: number, text: string): OutputChunk {
  return { stream, offset, data: Buffer.from(text) };
}

async function readAll(chunks: AsyncIterable<OutputChunk>): Promise<{ stdout: string; stderr: string }> {
  const text = { stdout: "", stderr: "" };
  for await (const { stream, offset, data } of chunks) {
    expect(offset).toBe(Buffer.byteLength(text[stream]));
    text[stream] += Buffer.from(data).toString("latin1");
  }
  return text;
}

describe("output log", () => {
  test("[EXEC-1] chunks sent again after a new link, cut anywhere, give every byte once and in order", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.boolean(), fc.string({ unit: "binary-ascii", minLength: 1, maxLength: 40 }), fc.nat(30)), { maxLength: 40 }),
        async (parts) => {
          const log = new OutputLog();
          const reader = log.read({ fromStart: true });
          const sent = { stdout: "", stderr: "" };
          for (const [isError, text, back] of parts) {
            const stream = isError ? "stderr" : "stdout";
            const from = Math.max(0, sent[stream].length - back);
            const again = sent[stream].slice(from) + text;
            log.append({ stream, offset: from, data: Buffer.from(again, "latin1") });
            sent[stream] += text;
          }
          log.close();
          expect(await readAll(reader.chunks)).toEqual(sent);
          expect(log.offsets).toEqual({ stdout: sent.stdout.length, stderr: sent.stderr.length });
        },
      ),
    );
  });

  test("[EXEC-1] a gap in the numbering is refused", () => {
    const log = new OutputLog();
    log.append(chunk("stdout", 0, "abc"));
    expect(() => log.append(chunk("stdout", 4, "d"))).toThrow(OffsetError);
    log.append(chunk("stderr", 0, "x"));
  });

  test("[EXEC-3] a slow reader holds the writer back, a reader that leaves sets it free", async () => {
    const log = new OutputLog();
    const slow = log.read({ fromStart: true });
    let offset = 0;
    const piece = new Uint8Array(64 * 1024);
    while (!log.isFull) {
      log.append({ stream: "stdout", offset, data: piece });
      offset += piece.length;
    }
    expect(log.heldBytes).toBeLessThanOrEqual(SESSION_HELD_BYTES_MAX + piece.length + 1024);
    let free = false;
    const waiting = log.room().then(() => {
      free = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(free).toBe(false);
    slow.close();
    await waiting;
    expect(free).toBe(true);
  });

  test("[EXEC-3] without readers the oldest output is dropped beyond the bound and the newest is kept", async () => {
    const log = new OutputLog();
    for (let offset = 0; offset < 4 * SESSION_HELD_BYTES_MAX; offset += 1024) {
      log.append({ stream: "stdout", offset, data: new Uint8Array(1024).fill(offset / 1024) });
      expect(log.heldBytes).toBeLessThanOrEqual(SESSION_HELD_BYTES_MAX);
    }
    log.close();
    let last = 0;
    for await (const { offset, data } of log.read({ fromStart: true }).chunks) last = offset + data.length;
    expect(last).toBe(4 * SESSION_HELD_BYTES_MAX);
  });

  test("[EXEC-3] a flood of one-byte chunks stays inside the bound and cheap", () => {
    const log = new OutputLog();
    for (let offset = 0; offset < 200_000; offset += 1) log.append({ stream: "stdout", offset, data: new Uint8Array(1) });
    expect(log.heldBytes).toBeLessThanOrEqual(SESSION_HELD_BYTES_MAX);
  });

  test("[EXEC-6] a reader ends only after the last byte that came before the end", async () => {
    const log = new OutputLog();
    const reader = log.read({ fromStart: true });
    const all = readAll(reader.chunks);
    await new Promise((resolve) => setImmediate(resolve));
    log.append(chunk("stdout", 0, "late"));
    log.close();
    expect(await all).toEqual({ stdout: "late", stderr: "" });
  });

  test("[EXEC-11] a session found after a restart begins where its first chunk does", async () => {
    const log = new OutputLog();
    log.beginAnywhere();
    log.append(chunk("stdout", 1000, "abc"));
    log.append(chunk("stdout", 1003, "d"));
    expect(log.offsets.stdout).toBe(1004);
    expect(() => log.append(chunk("stdout", 1010, "x"))).toThrow(OffsetError);
  });

  test("[EXEC-1] two readers at their own pace see the same bytes", async () => {
    const log = new OutputLog();
    const first = readAll(log.read({ fromStart: true }).chunks);
    log.append(chunk("stdout", 0, "one"));
    await new Promise((resolve) => setImmediate(resolve));
    const second = readAll(log.read({ fromStart: true }).chunks);
    log.append(chunk("stderr", 0, "two"));
    log.close();
    expect(await first).toEqual({ stdout: "one", stderr: "two" });
    expect(await second).toEqual(await first);
  });
});
