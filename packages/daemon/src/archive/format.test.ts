import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { withoutZeros } from "./archives.ts";
import { archiveMagic, type ArchiveRecord, encodeRecord, readRecords } from "./format.ts";

async function* cut(bytes: Buffer, size: number): AsyncGenerator<Uint8Array, void, void> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function readAll(bytes: Buffer, size = 7): Promise<ArchiveRecord[]> {
  const found: ArchiveRecord[] = [];
  for await (const record of readRecords(cut(bytes, size))) found.push(record);
  return found;
}

const data = Buffer.from("some bytes");
const records = [
  encodeRecord({ kind: "part", name: "disk", bytes: 100 }),
  encodeRecord({ kind: "data", offset: 5, length: data.length }, data),
  encodeRecord({ kind: "end" }),
];
const whole = Buffer.concat([archiveMagic(), ...records]);

describe("archive records", () => {
  it("[ARCH-3] come back as they were, however the bytes are cut", async () => {
    for (const size of [1, 3, 64, 4096]) {
      const found = await readAll(whole, size);
      expect(found.map(({ head }) => head.kind)).toEqual(["part", "data", "end"]);
      expect(found[1]?.data).toEqual(data);
    }
  });

  it("[ARCH-3] a cut at any byte is noticed", async () => {
    for (let length = 0; length < whole.length; length += 1) {
      await expect(readAll(whole.subarray(0, length))).rejects.toMatchObject({ code: "archive_invalid" });
    }
  });

  it("[ARCH-4] garbage is refused as such, never anything else", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (bytes) => {
        await expect(readAll(Buffer.concat([archiveMagic(), bytes]))).rejects.toMatchObject({ code: "archive_invalid" });
      }),
    );
  });

  it("[ARCH-4] a head of absurd length is refused from its length alone", async () => {
    const length = Buffer.alloc(4, 0xff);
    await expect(readAll(Buffer.concat([archiveMagic(), length]))).rejects.toThrow("too long");
  });
});

describe("leaving zeros out", () => {
  it("[ARCH-2] pieces put back at their places make the same bytes", () => {
    const block = fc.oneof(
      fc.constant(Buffer.alloc(16)),
      fc.uint8Array({ minLength: 1, maxLength: 16 }).map((bytes) => Buffer.from(bytes)),
    );
    fc.assert(
      fc.property(fc.array(block, { maxLength: 20 }), (blocks) => {
        const bytes = Buffer.concat(blocks);
        const pieces = withoutZeros(bytes, Buffer.alloc(16));
        const back = Buffer.alloc(bytes.length);
        for (const { offset, data: piece } of pieces) piece.copy(back, offset);
        expect(back).toEqual(bytes);
        for (const { data: piece } of pieces) expect(piece.every((byte) => byte === 0)).toBe(false);
      }),
    );
  });
});
