/** Decisions about a disk and its identity, from bytes and text alone. */
import { describe, expect, test } from "vitest";
import { judgeSuperblock } from "./disk.ts";
import { withHostLine } from "./identity.ts";

function superblock(fields: { magic?: number; state?: number; features?: number }): Buffer {
  const block = Buffer.alloc(1024);
  block.writeUInt16LE(fields.magic ?? 0xef53, 0x38);
  block.writeUInt16LE(fields.state ?? 1, 0x3a);
  block.writeUInt32LE(fields.features ?? 4, 0x5c);
  return block;
}

describe("judgeSuperblock", () => {
  test("[BOOT-5] a clean or journalled file system is mounted, a marked one repaired, anything else refused", () => {
    expect(judgeSuperblock(superblock({}))).toBe("mountable");
    expect(judgeSuperblock(superblock({ state: 0 }))).toBe("mountable");
    expect(judgeSuperblock(superblock({ state: 0, features: 0 }))).toBe("repair");
    expect(judgeSuperblock(superblock({ state: 3 }))).toBe("repair");
    expect(judgeSuperblock(superblock({ magic: 0 }))).toBe("foreign");
    expect(judgeSuperblock(Buffer.alloc(1024, 0xff))).toBe("foreign");
  });
});

describe("withHostLine", () => {
  test("[BOOT-5] adds one line, and replaces it when the name changes", () => {
    const first = withHostLine("127.0.0.1 localhost\n", "one");
    expect(first).toBe("127.0.0.1 localhost\n127.0.1.1 one # sprite\n");
    expect(withHostLine(first, "two")).toBe("127.0.0.1 localhost\n127.0.1.1 two # sprite\n");
    expect(withHostLine("no newline", "x")).toBe("no newline\n127.0.1.1 x # sprite");
  });
});
