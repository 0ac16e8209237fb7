/** A file as QEMU 10 writes it, made by hand, and every way in which it could be another. */
import fs from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { VmmError } from "../errors.ts";
import { STATE_OFFSET } from "./args.ts";
import { splitMappedRam } from "./own-memory.ts";

const PAGE = 4096;
const RAM_BYTES = 4 * PAGE;
const RAM_AT = 1024 * 1024;
const ROM_AT = 2 * 1024 * 1024;

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

function text(value: string): Buffer {
  return Buffer.concat([Buffer.from([value.length]), Buffer.from(value)]);
}

const footer = Buffer.concat([Buffer.from([0x7e]), u32(1)]);
const end = u64(0x10);
const address = u64(0xabc);
const command = Buffer.from([0x08, 0x00, 0x0b, 0x00, 0x00]);
const devices = Buffer.from([0x04, 1, 2, 3, 4, 5]);
const machine = Buffer.concat([u32(7), Buffer.from("microvm")]);

function head(capabilities: string[]): Buffer {
  return Buffer.concat([
    u32(0x5145564d),
    u32(3),
    Buffer.from([0x07]),
    machine,
    Buffer.from([0x05]),
    text("configuration/capabilities"),
    u32(1),
    u32(capabilities.length),
    ...capabilities.map(text),
  ]);
}

const setupHead = Buffer.concat([Buffer.from([0x01]), u32(1), text("ram"), u32(0), u32(4), u64((RAM_BYTES + PAGE) | 0x04)]);

/** Where a block lies: version, page size, bitmap, pages. */
function blockHeader(bitmapAt: number, pagesAt: number): Buffer {
  return Buffer.concat([u32(1), u64(PAGE), u64(bitmapAt), u64(pagesAt)]);
}

function written(): Buffer {
  const file = Buffer.alloc(ROM_AT + PAGE + 4096);
  let at = STATE_OFFSET;
  const put = (...parts: Buffer[]): void => {
    for (const part of parts) at += part.copy(file, at);
  };
  put(head(["x-ignore-shared", "mapped-ram"]), setupHead);
  put(text("ram"), u64(RAM_BYTES), address, blockHeader(at + 200, RAM_AT));
  file.fill(7, RAM_AT, RAM_AT + RAM_BYTES);
  at = RAM_AT + RAM_BYTES;
  const bitmapAt = at + 100;
  put(text("rom"), u64(PAGE), address, blockHeader(bitmapAt, ROM_AT));
  file[bitmapAt] = 1;
  file.fill(9, ROM_AT, ROM_AT + PAGE);
  at = ROM_AT + PAGE;
  const part = Buffer.concat([Buffer.from([0x02]), u32(1), end, footer]);
  put(end, footer, part, part, command, Buffer.from([0x03]), u32(1), end, footer, devices);
  return file.subarray(0, at);
}

/** The same machine's state with its RAM in a file of its own. */
const expected = Buffer.concat([
  head(["x-ignore-shared"]),
  setupHead,
  text("ram"),
  u64(RAM_BYTES),
  address,
  text("rom"),
  u64(PAGE),
  address,
  end,
  footer,
  command,
  Buffer.from([0x03]),
  u32(1),
  u64(0x08),
  text("rom"),
  Buffer.alloc(PAGE, 9),
  end,
  footer,
  devices,
]);

describe("a memory that is taken apart", () => {
  let directory: string;
  beforeAll(async () => {
    directory = await fs.mkdtemp(path.join(tmpdir(), "sprited-split-"));
  });
  afterAll(() => fs.rm(directory, { recursive: true }));

  async function split(bytes: Buffer) {
    const file = path.join(directory, "ram");
    await fs.writeFile(file, bytes);
    await using handle = await fs.open(file, "r");
    return await splitMappedRam(handle, { ramId: "ram", ramBytes: RAM_BYTES });
  }

  test("leaves the RAM where it is and gives the state that a VM with RAM of its own writes", async () => {
    const { stream, ramOffset } = await split(written());
    expect(ramOffset).toBe(RAM_AT);
    expect(stream.equals(expected)).toBe(true);
  });

  test("is refused when it is cut off anywhere, or another's", async () => {
    const whole = written();
    for (const length of [0, STATE_OFFSET, STATE_OFFSET + 9, RAM_AT, ROM_AT, whole.length - devices.length])
      await expect(split(whole.subarray(0, length))).rejects.toBeInstanceOf(VmmError);
    const other = written();
    other.write("pam", STATE_OFFSET + head(["x-ignore-shared", "mapped-ram"]).length + setupHead.length + 1);
    await expect(split(other)).rejects.toThrow(/RAM is not in it/);
  });

  test("never throws anything else, and never reads without bounds, whatever a byte of it says", async () => {
    const whole = written();
    const places = fc.oneof(
      fc.nat({ max: 400 }).map((at) => STATE_OFFSET + at),
      fc.nat({ max: 200 }).map((at) => ROM_AT + PAGE + at),
    );
    await fc.assert(
      fc.asyncProperty(places, fc.nat({ max: 255 }), async (at, value) => {
        const bytes = Buffer.from(whole);
        bytes[Math.min(at, bytes.length - 1)] = value;
        const outcome = await split(bytes).catch((error: unknown) => error);
        if (outcome instanceof Error) expect(outcome).toBeInstanceOf(VmmError);
      }),
      { numRuns: 150 },
    );
  });
});
