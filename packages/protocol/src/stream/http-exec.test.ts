import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeServerMessage } from "./exec-messages.ts";
import { HTTP_EXEC_FRAME_BYTES_MAX, HTTP_EXEC_GATHER_BYTES_MAX, OutputGatherer } from "./http-exec.ts";

const chunk = fc.record({ stream: fc.constantFrom("stdout" as const, "stderr" as const), data: fc.uint8Array({ maxLength: 40_000 }) });

describe("OutputGatherer", () => {
  it("[API-22] keeps every byte and the order between streams, in frames of at most 16 KiB", () => {
    fc.assert(
      fc.property(fc.array(chunk, { maxLength: 12 }), (chunks) => {
        const gatherer = new OutputGatherer();
        for (const { stream, data } of chunks) gatherer.add(stream, data);
        expect(gatherer.bytes).toBe(chunks.reduce((sum, { data }) => sum + data.length, 0));
        const got: { stream: string; byte: number }[] = [];
        for (let frame = gatherer.take(); frame; frame = gatherer.take()) {
          expect(frame.length).toBeLessThanOrEqual(HTTP_EXEC_FRAME_BYTES_MAX);
          const message = decodeServerMessage(frame, { tty: false });
          if (message.kind !== "output") throw new Error("not output");
          for (const byte of message.data) got.push({ stream: message.stream, byte });
        }
        expect(got).toEqual(chunks.flatMap(({ stream, data }) => [...data].map((byte) => ({ stream, byte }))));
        expect(gatherer.bytes).toBe(0);
      }),
      { numRuns: 30 },
    );
  });

  it("[API-18] says when it is full", () => {
    const gatherer = new OutputGatherer();
    gatherer.add("stdout", new Uint8Array(HTTP_EXEC_GATHER_BYTES_MAX));
    expect(gatherer.isFull).toBe(true);
    gatherer.take();
    expect(gatherer.isFull).toBe(false);
  });
});
