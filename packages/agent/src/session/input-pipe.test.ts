/** Input by offset: exactly once, bounded, and never waiting for a command that reads no more. */
import { PassThrough, Writable } from "node:stream";
import { GUEST_LIMITS } from "@sprited/protocol/guest";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { InputError, InputPipe } from "./input-pipe.ts";

function collect(): { target: Writable; bytes: () => Buffer; ended: () => boolean } {
  const chunks: Buffer[] = [];
  const target = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(chunk);
      done();
    },
  });
  return { target, bytes: () => Buffer.concat(chunks), ended: () => target.writableEnded };
}

describe("input pipe", () => {
  test("[SESS-5] repeats at any offset are applied once", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), fc.array(fc.tuple(fc.nat(2000), fc.nat(500)), { maxLength: 30 }), (all, sends) => {
        const { target, bytes } = collect();
        const pipe = new InputPipe(target, { isTerminal: false, onTaken: () => {} });
        let sent = 0;
        for (const [back, length] of sends) {
          const from = Math.max(0, sent - back);
          pipe.write(from, all.subarray(from, Math.min(all.length, from + length)));
          sent = Math.max(sent, Math.min(all.length, from + length));
        }
        expect(bytes().equals(Buffer.from(all.subarray(0, sent)))).toBe(true);
      }),
    );
  });

  test("[SESS-5] a gap is refused", () => {
    const pipe = new InputPipe(collect().target, { isTerminal: false, onTaken: () => {} });
    pipe.write(0, Buffer.from("ab"));
    expect(() => pipe.write(3, Buffer.from("d"))).toThrow(InputError);
  });

  test("[SESS-5] the input is closed behind its announced end, not before", async () => {
    const { target, ended } = collect();
    const pipe = new InputPipe(target, { isTerminal: false, onTaken: () => {} });
    pipe.end(4);
    pipe.write(0, Buffer.from("ab"));
    expect(ended()).toBe(false);
    pipe.write(2, Buffer.from("cd"));
    await expect.poll(ended).toBe(true);
    expect(() => pipe.write(4, Buffer.from("e"))).toThrow(InputError);
  });

  test("[SESS-10] more than the window beyond what was taken is refused", () => {
    const stuck = new PassThrough({ highWaterMark: 1 });
    const pipe = new InputPipe(stuck, { isTerminal: false, onTaken: () => {} });
    const stuckWrite = Buffer.alloc(GUEST_LIMITS.inputWindowBytes);
    pipe.write(0, stuckWrite);
    const room = pipe.taken;
    expect(() => pipe.write(stuckWrite.length, Buffer.alloc(room + 1))).toThrow(InputError);
  });

  test("[SESS-5] what a command that reads no more is sent counts as taken", () => {
    const taken: number[] = [];
    const { target } = collect();
    const pipe: InputPipe = new InputPipe(target, { isTerminal: false, onTaken: () => taken.push(pipe.taken) });
    pipe.close();
    pipe.write(0, Buffer.from("lost"));
    expect(taken).toEqual([4]);
  });

  test("[SESS-5] a terminal is told the end by its own character", () => {
    const { target, bytes, ended } = collect();
    const pipe = new InputPipe(target, { isTerminal: true, onTaken: () => {} });
    pipe.end(0);
    expect(bytes().toString()).toBe("\u0004");
    expect(ended()).toBe(false);
  });
});
