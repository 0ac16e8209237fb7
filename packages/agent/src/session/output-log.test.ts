/** The output log: every byte once, in order, from any offset, and memory that follows what is unacknowledged. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Offsets, OutputLog, type StreamName } from "./output-log.ts";

const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("append" as const),
      stream: fc.constantFrom<StreamName>("stdout", "stderr"),
      data: fc.uint8Array({ minLength: 1, maxLength: 3000 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("read" as const), count: fc.nat(5) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("ack" as const), part: fc.double({ min: 0, max: 1, noNaN: true }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reattach" as const), part: fc.double({ min: 0, max: 1, noNaN: true }) }) },
);

describe("output log", () => {
  test("[SESS-2] [SESS-4] a reader that comes and goes at any offset gets exactly the bytes that were written", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const log = new OutputLog();
        const written: Record<StreamName, Buffer[]> = { stdout: [], stderr: [] };
        const got: Record<StreamName, Buffer[]> = { stdout: [], stderr: [] };
        const acknowledged: Offsets = { stdout: 0, stderr: 0 };
        let cursor = log.cursor({ stdout: 0, stderr: 0 })!;
        const read = (): boolean => {
          const piece = log.read(cursor);
          if (!piece) return false;
          const have = Buffer.concat(got[piece.stream]);
          expect(piece.offset).toBeLessThanOrEqual(have.length);
          got[piece.stream] = [Buffer.concat([have.subarray(0, piece.offset), piece.data])];
          return true;
        };
        for (const each of steps) {
          if (each.kind === "append") {
            written[each.stream].push(Buffer.from(each.data));
            log.append(each.stream, Buffer.from(each.data));
          } else if (each.kind === "read") {
            for (let count = 0; count < each.count; count += 1) read();
          } else if (each.kind === "ack") {
            for (const name of ["stdout", "stderr"] as const) {
              acknowledged[name] = Math.max(acknowledged[name], Math.floor(Math.min(cursor.next[name], log.end[name]) * each.part));
            }
            log.acknowledge(acknowledged);
          } else {
            const from = { stdout: 0, stderr: 0 };
            for (const name of ["stdout", "stderr"] as const) {
              const have = Buffer.concat(got[name]).length;
              from[name] = acknowledged[name] + Math.floor((have - acknowledged[name]) * each.part);
            }
            cursor = log.cursor(from)!;
            expect(cursor).toBeDefined();
          }
        }
        while (read());
        for (const name of ["stdout", "stderr"] as const) {
          expect(Buffer.concat(got[name]).equals(Buffer.concat(written[name]))).toBe(true);
          expect(log.end[name]).toBe(Buffer.concat(written[name]).length);
        }
      }),
    );
  });

  test("[SESS-2] the order between the streams is the order of arrival", () => {
    const log = new OutputLog();
    for (const [stream, text] of [
      ["stdout", "a"],
      ["stderr", "b"],
      ["stdout", "c"],
      ["stderr", "d"],
    ] as const)
      log.append(stream, Buffer.from(text));
    const cursor = log.cursor({ stdout: 0, stderr: 0 })!;
    const order: string[] = [];
    for (let piece = log.read(cursor); piece; piece = log.read(cursor)) order.push(`${piece.stream} ${piece.data.toString()}`);
    expect(order).toEqual(["stdout a", "stderr b", "stdout c", "stderr d"]);
  });

  test("[SESS-3] what is acknowledged is let go, and nothing before it can be asked for", () => {
    const log = new OutputLog();
    log.append("stdout", Buffer.alloc(5000));
    log.append("stdout", Buffer.alloc(5000));
    log.append("stderr", Buffer.alloc(2000));
    log.acknowledge({ stdout: 5000, stderr: 0 });
    expect(log.retainedBytes).toBe(7000);
    expect(log.cursor({ stdout: 4999, stderr: 0 })).toBeUndefined();
    expect(log.cursor({ stdout: 5000, stderr: 0 })).toBeDefined();
    expect(log.cursor({ stdout: 10_001, stderr: 0 })).toBeUndefined();
  });

  test("a million one-byte writes cost their bytes, not a record each", () => {
    const log = new OutputLog();
    for (let index = 0; index < 1_000_000; index += 1) log.append("stdout", Buffer.from([index & 255]));
    expect(log.retainedBytes).toBe(1_000_000);
    const cursor = log.cursor({ stdout: 0, stderr: 0 })!;
    let pieces = 0;
    while (log.read(cursor)) pieces += 1;
    expect(pieces).toBeLessThan(200);
  });
});
