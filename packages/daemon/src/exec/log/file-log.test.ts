import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { silentLogger, waitFor } from "@sprited/base";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { LogPiece } from "../exec.ts";
import { FileLog, WAITING_BYTES_MAX } from "./file-log.ts";
import { reclaimLogs } from "./reclaim-logs.ts";
import { OffsetError, positionOf, type StreamName } from "./session-log.ts";
import { StoredLog } from "./stored-log.ts";

let root: string;
beforeEach(async () => {
  root = await fs.mkdtemp(path.join(os.tmpdir(), "sprited-log-"));
});
afterEach(() => fs.rm(root, { recursive: true, force: true }));

const BYTES_MAX = 16 * 1024;
let directories = 0;
const newDirectory = (): string => path.join(root, String(++directories), "log");
const options = (directory: string, bytesMax = BYTES_MAX) => ({ directory, bytesMax, logger: silentLogger });
const settled = (log: FileLog): Promise<unknown> =>
  waitFor("the writer", { timeoutMs: 5_000, everyMs: 1 }, () => log.end === positionOf(log.offsets));

/** What was put into a log: the byte at each position. */
class Model {
  readonly bytes: number[] = [];
  readonly offsets = { stdout: 0, stderr: 0 };
  #seed = 1;

  /** The next `length` bytes of a stream, put into `log`. */
  append(log: FileLog, stream: StreamName, length: number): void {
    const data = Uint8Array.from({ length }, () => (this.#seed = (this.#seed * 48_271) % 2_147_483_647) & 0xff);
    log.append({ stream, offset: this.offsets[stream], data });
    this.offsets[stream] += length;
    for (const byte of data) this.bytes.push(byte);
  }

  /** A torn end: only so much is left. */
  cut(offsets: { stdout: number; stderr: number }): void {
    this.bytes.length = positionOf(offsets);
    Object.assign(this.offsets, offsets);
  }
}

/** Checks that pieces follow each other from `position` on and say what the model says; returns bytes read and lost. */
function checker(model: Model, position: number): { take(piece: LogPiece): void; read: number; lost: number; next: number } {
  const state = {
    read: 0,
    lost: 0,
    next: position,
    take(piece: LogPiece): void {
      expect(piece.position).toBe(state.next);
      if (piece.kind === "gap") {
        expect(piece.bytes).toBeGreaterThan(0);
        expect(positionOf(piece.streamEnd)).toBe(piece.position + piece.bytes);
        state.lost += piece.bytes;
        state.next += piece.bytes;
      } else {
        expect([...piece.data]).toEqual(model.bytes.slice(piece.position, piece.position + piece.data.length));
        state.read += piece.data.length;
        state.next += piece.data.length;
      }
    },
  };
  return state;
}

async function drain(
  model: Model,
  reader: { position: number; pieces: AsyncIterable<LogPiece> },
): Promise<{ read: number; lost: number; next: number }> {
  const check = checker(model, reader.position);
  for await (const piece of reader.pieces) check.take(piece);
  return check;
}

type Step =
  | { do: "append"; stream: StreamName; length: number }
  | { do: "settle" }
  | { do: "open"; part: number; holdsBack: boolean }
  | { do: "read"; which: number; pieces: number }
  | { do: "leave"; which: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("append" as const),
      stream: fc.constantFrom<StreamName>("stdout", "stderr"),
      length: fc.integer({ min: 1, max: 3_000 }),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ do: "settle" as const }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("open" as const),
      part: fc.double({ min: 0, max: 1, noNaN: true }),
      holdsBack: fc.constant(false),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("read" as const), which: fc.nat(5), pieces: fc.integer({ min: 1, max: 6 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("leave" as const), which: fc.nat(5) }) },
);

describe("log in files", () => {
  test("[LOG-1] [LOG-4] readers that come, lag and go get every kept byte once and in order, and are told what is gone", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const log = new FileLog(options(newDirectory()));
        const model = new Model();
        const readers: { pieces: AsyncIterator<LogPiece>; check: ReturnType<typeof checker>; close(): void }[] = [];
        for (const one of steps) {
          const reader = "which" in one ? readers[one.which % Math.max(1, readers.length)] : undefined;
          if (one.do === "append") model.append(log, one.stream, one.length);
          else if (one.do === "settle") {
            await settled(log);
            expect(log.bytes).toBeLessThanOrEqual(BYTES_MAX + 4_096);
          } else if (one.do === "open") {
            const opened = log.read({ from: { position: Math.floor(one.part * log.end) }, holdsBack: one.holdsBack });
            readers.push({ pieces: opened.pieces[Symbol.asyncIterator](), check: checker(model, opened.position), close: opened.close });
          } else if (one.do === "read" && reader) {
            for (let left = one.pieces; left > 0 && reader.check.next < log.end; left -= 1) {
              const next = await reader.pieces.next();
              if (!next.done) reader.check.take(next.value);
            }
          } else if (one.do === "leave" && reader) {
            reader.close();
            readers.splice(readers.indexOf(reader), 1);
          }
        }
        await log.close();
        for (const { pieces, check } of readers) {
          for (let next = await pieces.next(); !next.done; next = await pieces.next()) check.take(next.value);
          expect(check.next).toBe(model.bytes.length);
        }
        const whole = await drain(model, log.read({ from: "start", holdsBack: false }));
        expect(whole).toMatchObject({ lost: 0, next: model.bytes.length });
        expect(whole.read).toBe(model.bytes.length - log.start);
        if (model.bytes.length < BYTES_MAX / 2) expect(log.start).toBe(0);
        await log.flush();
      }),
      { numRuns: 60 },
    );
  });

  test("[LOG-2] [LOG-6] after a crash at any byte the log is a prefix of what was written, and goes on", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 2_000 }), fc.boolean()), { minLength: 1, maxLength: 30 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.constantFrom("cut", "flip", "zeros"),
        async (parts, where, how) => {
          const directory = newDirectory();
          const log = new FileLog(options(directory));
          const model = new Model();
          for (const [isError, length, wait] of parts) {
            model.append(log, isError ? "stderr" : "stdout", length);
            if (wait) await settled(log);
          }
          await settled(log);
          await log.flush();
          const last = (await fs.readdir(directory)).sort().at(-1) as string;
          await damage(path.join(directory, last), where, how);

          const again = await FileLog.reopen(options(directory));
          expect(again.offsets.stdout).toBeLessThanOrEqual(model.offsets.stdout);
          expect(again.offsets.stderr).toBeLessThanOrEqual(model.offsets.stderr);
          model.cut(again.offsets);
          model.append(again, "stdout", 500);
          await again.close();
          const read = await drain(model, again.read({ from: "start", holdsBack: false }));
          expect(read).toMatchObject({ lost: 0, next: model.bytes.length });
          await again.flush();
          const third = await FileLog.reopen(options(directory));
          expect(third.offsets).toEqual(model.offsets);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("[LOG-7] garbage anywhere in the files is a gap for readers, never an error and never wrong bytes", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(20),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.constantFrom("cut", "flip", "zeros", "gone"),
        async (file, where, how) => {
          const directory = newDirectory();
          const log = new FileLog(options(directory));
          const model = new Model();
          for (let at = 0; at < 40; at += 1) {
            model.append(log, at % 3 ? "stdout" : "stderr", 300);
            if (at % 4 === 0) await settled(log);
          }
          await log.close();
          await log.flush();
          const names = (await fs.readdir(directory)).sort();
          const victim = path.join(directory, names[file % names.length] as string);
          if (how === "gone") await fs.rm(victim);
          else await damage(victim, where, how);
          await fs.writeFile(path.join(directory, "notes.txt"), "not ours");
          await fs.writeFile(path.join(directory, "0000000000000007.log"), "SPRLOG1\nnonsense");
          const stored = new StoredLog({ directory, startOffsets: log.startOffsets, offsets: model.offsets, logger: silentLogger });
          for (const reader of [log.read({ from: "start", holdsBack: false }), stored.read({ from: "start", holdsBack: false })]) {
            const { next, read, lost } = await drain(model, reader);
            expect(next).toBe(model.bytes.length);
            expect(read + lost).toBe(model.bytes.length - log.start);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test("[LOG-3] nothing is written before the first output, and the files hold what readers saw", async () => {
    const directory = newDirectory();
    const log = new FileLog(options(directory));
    await expect(fs.readdir(directory)).rejects.toMatchObject({ code: "ENOENT" });
    const model = new Model();
    const reader = log.read({ from: "start", holdsBack: true }).pieces[Symbol.asyncIterator]();
    model.append(log, "stdout", 100);
    const piece = await reader.next();
    expect(piece.done).toBe(false);
    // As a killed daemon leaves it: nothing closed, nothing flushed.
    const after = await FileLog.reopen(options(directory));
    expect(after.offsets).toEqual(model.offsets);
    expect(log.safe).toEqual(model.offsets);
    await log.discard();
  });

  test("[LOG-5] [EXEC-3] a reader that lags holds the writer back before anything it needs is dropped; without it the oldest goes", async () => {
    const log = new FileLog(options(newDirectory()));
    const model = new Model();
    const slow = log.read({ from: "start", holdsBack: true });
    const fill = async (): Promise<void> => {
      for (let still = -1; still !== log.end;) {
        still = log.end;
        for (let count = 0; count < 8 && !log.isFull; count += 1) model.append(log, "stdout", 1_000);
        await new Promise((resolve) => setTimeout(resolve, 15));
      }
    };
    await fill();
    expect(log.start).toBe(0);
    expect(log.end).toBeLessThanOrEqual(BYTES_MAX);
    const check = checker(model, 0);
    const pieces = slow.pieces[Symbol.asyncIterator]();
    for (let next = await pieces.next(); !next.done && check.next < 3 * BYTES_MAX; next = await pieces.next()) {
      check.take(next.value);
      if (!log.isFull) model.append(log, "stdout", 1_000);
    }
    expect(check.lost).toBe(0);
    slow.close();
    await fill();
    await waitFor("the oldest to be dropped", { timeoutMs: 2_000 }, () => log.start > check.next - BYTES_MAX);
    await log.discard();
  });

  test("[EXEC-17] a client that vanished has its place kept for a while, also for what was under way to it", async () => {
    const log = new FileLog(options(newDirectory()));
    const model = new Model();
    const lost = log.read({ from: "start", holdsBack: true });
    model.append(log, "stdout", 4_000);
    const pieces = lost.pieces[Symbol.asyncIterator]();
    await pieces.next();
    await pieces.return?.();
    lost.close({ keepMs: 400 });
    for (let count = 0; count < 60; count += 1) {
      model.append(log, "stdout", 500);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await waitFor("the writer to stand still", { timeoutMs: 2_000 }, () => log.bytes > BYTES_MAX / 2);
    expect(log.start).toBe(0);
    await settled(log);
    expect(log.start).toBeGreaterThan(0);
    await log.discard();
  });

  test("[EXEC-17] a client that comes back takes over its place: nobody waits for the old one", async () => {
    const log = new FileLog(options(newDirectory()));
    const model = new Model();
    const lost = log.read({ from: "start", holdsBack: true });
    model.append(log, "stdout", 1_000);
    const pieces = lost.pieces[Symbol.asyncIterator]();
    await pieces.next();
    void pieces.next();
    await new Promise((resolve) => setTimeout(resolve, 10));
    lost.close({ keepMs: 60_000 });
    const back = log.read({ from: { position: 700 }, holdsBack: true });
    const read = drain(model, back);
    for (let count = 0; count < 100; count += 1) {
      model.append(log, "stdout", 500);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await settled(log);
    await log.close();
    expect(await read).toMatchObject({ lost: 0, next: model.bytes.length });
    await log.discard();
  });

  test("[LOG-5] readers that take everything never hold back a command that writes byte by byte", async () => {
    const log = new FileLog(options(newDirectory()));
    const model = new Model();
    const read = drain(model, log.read({ from: "start", holdsBack: true }));
    for (let count = 0; count < 4_000; count += 1) {
      model.append(log, count % 2 ? "stdout" : "stderr", 1);
      if (count % 50 === 0) await settled(log);
    }
    await settled(log);
    expect(log.start).toBeGreaterThan(0);
    await log.close();
    expect(await read).toMatchObject({ lost: 0, next: model.bytes.length });
    await log.discard();
  });

  test("[LOG-8] a closed log is on the disk and its file let go of after the flush, also when nothing was ever written", async () => {
    const directory = newDirectory();
    const log = new FileLog(options(directory));
    const model = new Model();
    model.append(log, "stdout", 5_000);
    await log.close();
    await log.flush();
    const again = await FileLog.reopen(options(directory));
    expect(again.offsets).toEqual(model.offsets);
    const empty = new FileLog(options(newDirectory()));
    await empty.close();
    await empty.flush();
    expect(empty.bytes).toBe(0);
  });

  test("[LOG-10] logs without a record are removed, others are not touched", async () => {
    for (const name of ["s1/1", "s1/2", "s2/1"]) await fs.mkdir(path.join(root, name), { recursive: true });
    await fs.writeFile(path.join(root, "stray"), "");
    await reclaimLogs(root, [{ spriteId: "s1", id: "2" }], silentLogger);
    expect([await fs.readdir(root), await fs.readdir(path.join(root, "s1"))]).toEqual([["s1"], ["2"]]);
    await reclaimLogs(path.join(root, "missing"), [], silentLogger);
  });

  test("[LOG-11] readers that lag share what is in memory: it does not grow with them", async () => {
    const log = new FileLog(options(newDirectory(), 64 * 1024 * 1024));
    const readers = Array.from({ length: 50 }, () => log.read({ from: "start", holdsBack: true }));
    const tail: number[] = [];
    const data = new Uint8Array(64 * 1024);
    for (let offset = 0; offset < 16 * 1024 * 1024; offset += data.length) {
      log.append({ stream: "stdout", offset, data });
      await log.room();
    }
    await settled(log);
    for (let position = 0; position < log.end; position += data.length) if (log.inMemory(position)) tail.push(position);
    expect(tail.length * data.length).toBeLessThanOrEqual(256 * 1024);
    for (const reader of readers) reader.close();
    expect(log.inMemory(log.end - 1)).toBeUndefined();
    await log.discard();
  });

  test("[EXEC-6] a reader ends only after the last byte that came before the end", async () => {
    const log = new FileLog(options(newDirectory()));
    const model = new Model();
    const read = drain(model, log.read({ from: "end", holdsBack: true }));
    await new Promise((resolve) => setImmediate(resolve));
    model.append(log, "stderr", 10);
    await log.close();
    expect(await read).toMatchObject({ read: 10, lost: 0 });
    await log.discard();
  });

  test("[LOG-9] a log that cannot be written holds the command back, and goes on when there is room", async () => {
    const directory = newDirectory();
    await fs.mkdir(path.dirname(directory), { recursive: true });
    await fs.writeFile(directory, "in the way");
    const log = new FileLog(options(directory, 64 * 1024 * 1024));
    const model = new Model();
    while (!log.isFull) model.append(log, "stderr", 64 * 1024);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect([log.isFull, log.end, positionOf(log.safe)]).toEqual([true, 0, 0]);
    expect(positionOf(log.offsets)).toBeLessThan(2 * WAITING_BYTES_MAX);
    await fs.rm(directory);
    await log.room();
    await settled(log);
    expect(await drain(model, log.read({ from: "start", holdsBack: false, follow: false }))).toMatchObject({
      lost: 0,
      read: model.bytes.length,
    });
    await log.discard();
  });

  test("[EXEC-1] a gap in the numbering is refused, bytes sent again are cut off", () => {
    const log = new FileLog(options(newDirectory()));
    const model = new Model();
    model.append(log, "stdout", 10);
    expect(() => log.append({ stream: "stdout", offset: 11, data: Buffer.from("x") })).toThrow(OffsetError);
    log.append({ stream: "stdout", offset: 4, data: Buffer.from("0123456") });
    expect(log.offsets).toEqual({ stdout: 11, stderr: 0 });
  });
});

async function damage(file: string, where: number, how: "cut" | "flip" | "zeros"): Promise<void> {
  const bytes = await fs.readFile(file);
  const at = Math.min(bytes.length - 1, Math.floor(where * bytes.length));
  if (how === "cut") return await fs.writeFile(file, bytes.subarray(0, at));
  if (how === "flip") bytes[at] = (bytes[at] as number) ^ 0x10;
  else bytes.fill(0, at);
  await fs.writeFile(file, bytes);
}
