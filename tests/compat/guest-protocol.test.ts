/**
 * Frames and boot lines of every generation as they were when it was frozen. A sleeping sprite
 * carries the agent it fell asleep with: these files are never edited, only added to.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import {
  bootReply,
  bootRequest,
  decodeJson,
  decodeOffset,
  encodeFrame,
  encodeJsonFrame,
  encodeOffsets,
  FrameDecoder,
  FrameType,
  GUEST_GENERATIONS_SPOKEN,
} from "@sprited/protocol/guest";
import { describe, expect, test } from "vitest";
import { z } from "zod";

const frameName = z.enum(Object.keys(FrameType) as [keyof typeof FrameType]);
const frozen = z.object({
  generation: z.int(),
  frames: z.array(z.object({ name: z.string(), type: frameName, json: z.unknown(), hex: z.string() })),
  raw: z.array(
    z.object({
      name: z.string(),
      type: frameName,
      offsets: z.array(z.int()),
      stream: z.int().nullable(),
      text: z.string(),
      hex: z.string(),
    }),
  ),
  boot: z.object({ requests: z.array(z.unknown()), replies: z.array(z.unknown()) }),
});

/** Frames that only the host sends; the agent's are the others. */
const FROM_HOST = new Set(["start", "resume", "input", "inputEnd", "resize", "signal", "ack"]);

function onlyFrame(hex: string): { type: FrameType; payload: Uint8Array } {
  const frames = [...new FrameDecoder().push(Buffer.from(hex, "hex"))];
  expect(frames).toHaveLength(1);
  return frames[0] as { type: FrameType; payload: Uint8Array };
}

for (const generation of GUEST_GENERATIONS_SPOKEN) {
  const file = path.join(import.meta.dirname, `gen-${generation}.json`);
  const { frames, raw, boot } = frozen.parse(JSON.parse(readFileSync(file, "utf8")));

  describe(`generation ${generation}`, () => {
    for (const { name, type, json, hex } of frames) {
      test(`[${FROM_HOST.has(type) ? "FRAME-2" : "FRAME-3"}] ${name} is read and written byte for byte`, () => {
        const frame = onlyFrame(hex);
        expect(frame.type).toBe(FrameType[type]);
        expect(decodeJson(frame.payload)).toEqual(json);
        expect(Buffer.from(encodeJsonFrame(FrameType[type], json)).toString("hex")).toBe(hex);
      });
    }

    for (const { name, type, offsets, stream, text, hex } of raw) {
      test(`[${FROM_HOST.has(type) ? "FRAME-2" : "FRAME-3"}] ${name} is read and written byte for byte`, () => {
        const frame = onlyFrame(hex);
        expect(frame.type).toBe(FrameType[type]);
        const head = stream === null ? new Uint8Array(0) : Uint8Array.of(stream);
        offsets.forEach((offset, index) => expect(decodeOffset(frame.payload, head.length + index * 8)).toBe(offset));
        expect(Buffer.from(frame.payload.subarray(head.length + offsets.length * 8)).toString()).toBe(text);
        const again = encodeFrame(FrameType[type], head, encodeOffsets(...offsets), new TextEncoder().encode(text));
        expect(Buffer.from(again).toString("hex")).toBe(hex);
      });
    }

    test("[BOOT-2] every boot line of the time is still understood", () => {
      for (const request of boot.requests) expect(bootRequest.parse(request)).toEqual(request);
      for (const reply of boot.replies) expect(bootReply.parse(reply)).toEqual(reply);
    });
  });
}
