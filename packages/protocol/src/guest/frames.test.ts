/** The frame codec: chunking never changes what is read, lies never cost more than the limit. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  decodeJson,
  decodeOffset,
  encodeFrame,
  encodeJsonFrame,
  encodeOffsets,
  type Frame,
  FrameDecoder,
  FrameError,
  FrameType,
} from "./frames.ts";
import { GUEST_LIMITS } from "./generation.ts";

const types = Object.values(FrameType);
const frameArbitrary = fc.record({ type: fc.constantFrom(...types), payload: fc.uint8Array({ maxLength: 300 }) });

function join(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

/** Cuts `bytes` at pseudo-random places given by `cuts`. */
function cut(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const places = [...new Set(cuts.map((at) => at % (bytes.length + 1)))].sort((a, b) => a - b);
  const chunks: Uint8Array[] = [];
  let from = 0;
  for (const to of [...places, bytes.length]) {
    chunks.push(bytes.slice(from, to));
    from = to;
  }
  return chunks;
}

function decodeAll(chunks: readonly Uint8Array[]): { frames: Frame[]; pending: number } {
  const decoder = new FrameDecoder();
  const frames: Frame[] = [];
  for (const chunk of chunks) for (const frame of decoder.push(chunk)) frames.push({ type: frame.type, payload: frame.payload.slice() });
  return { frames, pending: decoder.pendingBytes };
}

describe("frame decoder", () => {
  test("[FRAME-1] any chunking gives the same frames", () => {
    fc.assert(
      fc.property(fc.array(frameArbitrary, { maxLength: 20 }), fc.array(fc.nat(), { maxLength: 40 }), (frames, cuts) => {
        const bytes = join(frames.map((frame) => encodeFrame(frame.type, frame.payload)));
        const read = decodeAll(cut(bytes, cuts));
        expect(read.frames).toEqual(frames);
        expect(read.pending).toBe(0);
      }),
    );
  });

  test("[FRAME-1] a cut stream is noticed: what is missing stays pending", () => {
    fc.assert(
      fc.property(frameArbitrary, fc.nat(), (frame, at) => {
        const bytes = encodeFrame(frame.type, frame.payload);
        const kept = at % bytes.length;
        const read = decodeAll([bytes.subarray(0, kept)]);
        expect(read.frames).toEqual([]);
        expect(read.pending).toBe(kept);
      }),
    );
  });

  test("[FRAME-1] garbage throws FrameError or is read as frames within the limit, never anything else", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 20 }), (chunks) => {
        try {
          for (const frame of decodeAll(chunks).frames) expect(frame.payload.length).toBeLessThanOrEqual(GUEST_LIMITS.frameBytesMax);
        } catch (error) {
          expect(error).toBeInstanceOf(FrameError);
        }
      }),
    );
  });

  test("[FRAME-1] a length above the limit is refused from its header alone", () => {
    const header = new Uint8Array([FrameType.output, 0, 0x10, 0, 1]);
    expect(() => [...new FrameDecoder().push(header)]).toThrow(FrameError);
  });

  test("[FRAME-1] an unknown type is refused, and the decoder stays refused", () => {
    const decoder = new FrameDecoder();
    expect(() => [...decoder.push(new Uint8Array([0x42, 0, 0, 0, 0]))]).toThrow(/unknown frame type/);
    expect(() => [...decoder.push(encodeFrame(FrameType.start))]).toThrow(FrameError);
  });

  test("[FRAME-1] a frame of the largest size in small chunks costs linear work", () => {
    const payload = new Uint8Array(GUEST_LIMITS.frameBytesMax).fill(7);
    const bytes = encodeFrame(FrameType.output, payload);
    const decoder = new FrameDecoder();
    const frames: Frame[] = [];
    const startedMs = performance.now();
    for (let at = 0; at < bytes.length; at += 64) for (const frame of decoder.push(bytes.subarray(at, at + 64))) frames.push(frame);
    expect(frames).toHaveLength(1);
    expect(Buffer.compare(frames[0]?.payload ?? new Uint8Array(0), payload)).toBe(0);
    // Re-joining on every chunk would move 8 GiB here.
    expect(performance.now() - startedMs).toBeLessThan(2000);
  });
});

describe("payloads", () => {
  test("offsets survive the round trip and are bounded by 2^53", () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.maxSafeNat(), (a, b) => {
        const bytes = encodeOffsets(a, b);
        expect(decodeOffset(bytes)).toBe(a);
        expect(decodeOffset(bytes, 8)).toBe(b);
      }),
    );
    expect(() => decodeOffset(new Uint8Array(8).fill(255))).toThrow(FrameError);
    expect(() => decodeOffset(new Uint8Array(7))).toThrow(FrameError);
  });

  test("[FRAME-1] an encoder refuses what a decoder would refuse", () => {
    expect(() => encodeFrame(FrameType.output, new Uint8Array(GUEST_LIMITS.frameBytesMax + 1))).toThrow(FrameError);
  });

  test("JSON payloads: what is not JSON or not UTF-8 throws FrameError", () => {
    const frame = decodeAll([encodeJsonFrame(FrameType.exit, { code: 0, signal: null })]).frames[0];
    expect(decodeJson(frame?.payload ?? new Uint8Array(0))).toEqual({ code: 0, signal: null });
    expect(() => decodeJson(new Uint8Array([0x7b]))).toThrow(FrameError);
    expect(() => decodeJson(new Uint8Array([0x22, 0xff, 0x22]))).toThrow(FrameError);
  });
});
