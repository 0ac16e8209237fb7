import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  encodeHttpExecFrame,
  HTTP_EXEC_PAYLOAD_BYTES_MAX,
  HttpExecDecoder,
  type HttpExecFrame,
  HttpExecFrameError,
} from "./http-exec-frames.ts";

const frame = fc.oneof(
  fc.record({
    kind: fc.constant("output" as const),
    stream: fc.constantFrom("stdout" as const, "stderr" as const),
    data: fc.uint8Array({ maxLength: 3000 }),
  }),
  fc.constant({ kind: "keep_alive" as const }),
  fc.record({ kind: fc.constant("exit" as const), code: fc.integer({ min: 0, max: 255 }) }),
  fc.record({ kind: fc.constant("gap" as const), from: fc.nat(), to: fc.nat() }),
  fc.record({ kind: fc.constant("input_ack" as const), offset: fc.nat() }),
  fc.record({ kind: fc.constant("error" as const), error: fc.string(), message: fc.string() }),
  fc.record({ kind: fc.constant("session_info" as const), info: fc.record({ session_id: fc.string(), tty: fc.boolean() }) }),
);

describe("HttpExecDecoder", () => {
  it("[HTTP-2] gives the same frames however the body is cut", () => {
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 8 }), fc.array(fc.nat(), { maxLength: 20 }), (frames, cuts) => {
        const bytes = Buffer.concat(frames.map((one) => encodeHttpExecFrame(one as HttpExecFrame)));
        const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((left, right) => left - right), bytes.length];
        const decoder = new HttpExecDecoder();
        const got = places.slice(1).flatMap((end, index) => decoder.push(bytes.subarray(places[index] ?? 0, end)));
        expect(got.map(plain)).toEqual(frames.map((one) => plain(one as HttpExecFrame)));
        expect(decoder.isInside).toBe(false);
      }),
    );
  });

  it("[HTTP-2] knows when a body ends inside a frame", () => {
    const bytes = encodeHttpExecFrame({ kind: "exit", code: 7 });
    for (let length = 1; length < bytes.length; length++) {
      const decoder = new HttpExecDecoder();
      expect(decoder.push(bytes.subarray(0, length))).toEqual([]);
      expect(decoder.isInside).toBe(true);
    }
  });

  it("[HTTP-7] skips types it does not know", () => {
    const unknown = Uint8Array.of(99, 0, 0, 0, 2, 1, 2);
    expect(new HttpExecDecoder().push(Buffer.concat([unknown, encodeHttpExecFrame({ kind: "exit", code: 1 })]))).toEqual([
      { kind: "exit", code: 1 },
    ]);
  });

  it.each([
    ["a payload that is too long", Uint8Array.of(1, 0, 0x10, 0, 1)],
    ["an exit without a code", Uint8Array.of(3, 0, 0, 0, 0)],
    ["a session_info that is no JSON", Uint8Array.of(5, 0, 0, 0, 1, 0x7b)],
    ["an input_ack without an offset", Uint8Array.of(8, 0, 0, 0, 2, 0x7b, 0x7d)],
    ["an error that is no object", Uint8Array.of(6, 0, 0, 0, 2, 0x5b, 0x5d)],
  ])("[HTTP-7] refuses %s", (_, bytes) => {
    expect(HTTP_EXEC_PAYLOAD_BYTES_MAX).toBe(0x10_0000);
    expect(() => new HttpExecDecoder().push(bytes)).toThrow(HttpExecFrameError);
  });
});

/** Bytes as an array, so that views and buffers compare. */
function plain(one: HttpExecFrame): unknown {
  return one.kind === "output" ? { ...one, data: [...one.data] } : one;
}
