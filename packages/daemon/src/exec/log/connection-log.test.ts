/** What is kept of a connection until its client has it: no byte lost, none twice, never more than the bound. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { ConnectionLog } from "./connection-log.ts";

const MIB = 1024 * 1024;

/** Bytes whose value tells their offset. */
function bytesAt(offset: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (offset + index) % 251);
}

/** Reads until nothing more is there. */
async function readOn(log: ConnectionLog, position: number): Promise<{ bytes: number[]; gap: number }> {
  const bytes: number[] = [];
  let gap = 0;
  for await (const piece of log.read({ from: { position }, holdsBack: true, follow: false }).pieces) {
    if (piece.kind === "gap") gap += piece.bytes;
    else bytes.push(...piece.data);
  }
  return { bytes, gap };
}

test("[PROXY-5] a client that comes back anywhere between what it confirmed and the end gets exactly the rest", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 300 }), fc.double({ min: 0, max: 1, noNaN: true })), { minLength: 1, maxLength: 20 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      async (steps, at) => {
        const log = new ConnectionLog();
        for (const [length, share] of steps) {
          log.append({ stream: "stdout", offset: log.end, data: bytesAt(log.end, length) });
          log.confirm(log.start + Math.floor(share * (log.end - log.start)));
        }
        const from = log.start + Math.floor(at * (log.end - log.start));
        const read = await readOn(log, from);
        expect(read).toEqual({ bytes: [...bytesAt(from, log.end - from)], gap: 0 });
        expect(log.safe.stdout).toBe(log.start);
      },
    ),
  );
});

test("[PROXY-5] it is full at its bound and has room again when the client confirms", async () => {
  const log = new ConnectionLog();
  let safe = 0;
  log.onSafe(() => (safe = log.safe.stdout));
  log.append({ stream: "stdout", offset: 0, data: new Uint8Array(MIB) });
  expect(log.isFull).toBe(true);
  const room = log.room();
  log.confirm(MIB / 2);
  expect([log.isFull, safe]).toEqual([true, MIB / 2]);
  log.confirm(MIB);
  await room;
  expect([log.isFull, safe]).toEqual([false, MIB]);
});

test("[PROXY-6] after a restart bytes that the client has already are taken off as they come again", async () => {
  const log = new ConnectionLog({ stdout: 100, stderr: 0 });
  const reader = log.read({ from: { position: 2 * MIB }, holdsBack: true }).pieces[Symbol.asyncIterator]();
  log.confirm(2 * MIB);
  for (let offset = 100; offset < 2.2 * MIB; offset += MIB / 2) {
    expect(log.isFull).toBe(false);
    log.append({ stream: "stdout", offset, data: bytesAt(offset, MIB / 2) });
  }
  const { value } = await reader.next();
  expect(value).toMatchObject({ kind: "output", position: 2 * MIB, offset: 2 * MIB });
  expect(log.start).toBe(2 * MIB);
});

test("[PROXY-5] who asks for confirmed bytes is told of the gap", async () => {
  const log = new ConnectionLog();
  log.append({ stream: "stdout", offset: 0, data: bytesAt(0, 10) });
  log.confirm(6);
  expect(await readOn(log, 2)).toEqual({ bytes: [...bytesAt(6, 4)], gap: 4 });
});
