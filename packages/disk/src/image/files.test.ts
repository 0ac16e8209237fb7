import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { run } from "@sprited/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkFileSystem, growFileSystem, GIB, imageBytes, mkfsArgs, zeroedTableCommands } from "./ext4.ts";
import { checkFile, readImageRecord, readSizeRecord, recordFile } from "./record.ts";

let directory = "";
beforeEach(async () => {
  directory = await fs.mkdtemp(path.join(os.tmpdir(), "sprited-image-"));
});
afterEach(async () => {
  await fs.rm(directory, { recursive: true });
});

const MIB = 1024 ** 2;

describe("ext4 in a file", () => {
  const make = async (): Promise<string> => {
    const tree = path.join(directory, "tree");
    await fs.mkdir(path.join(tree, "etc"), { recursive: true });
    await fs.writeFile(path.join(tree, "etc/hello"), "world\n");
    const raw = path.join(directory, "image.raw");
    await run("mke2fs", mkfsArgs({ tree, target: raw, bytes: 256 * MIB, uuid: "3f0e1d2c-4b5a-4697-8877-665544332211", label: "sprite" }));
    return raw;
  };

  it("[IMG-6] grows to a hundred times its size, stays sparse, keeps its content and leaves the guest nothing to zero", async () => {
    const raw = await make();
    await growFileSystem(raw, 30 * GIB);
    await checkFileSystem(raw);
    const stat = await fs.stat(raw);
    expect(stat.size).toBe(30 * GIB);
    expect(stat.blocks * 512).toBeLessThan(24 * MIB);
    const { stdout: groups } = await run("dumpe2fs", [raw]);
    const flags = groups.split("\n").filter((line) => /^Group \d+:/.test(line));
    expect(flags.length).toBe(240);
    expect(flags.every((line) => line.includes("ITABLE_ZEROED"))).toBe(true);
    const { stdout } = await run("debugfs", ["-R", "cat /etc/hello", raw]);
    expect(stdout).toBe("world\n");
  });

  it("[IMG-7] a file system that was overwritten is damage", async () => {
    const raw = await make();
    const file = await fs.open(raw, "r+");
    await file.write(Buffer.alloc(512 * 1024, 0xff), 0, 512 * 1024, 4096);
    await file.close();
    await expect(checkFileSystem(raw)).rejects.toMatchObject({ code: "disk_damaged" });
  });

  it("marks only groups that lack the mark, and keeps their other flags", () => {
    const text = [
      "Group 0: (Blocks 0-32767) csum 0x1a3f [ITABLE_ZEROED]",
      "  Primary superblock at 0, Group descriptors at 1-1",
      "Group 1: (Blocks 32768-65535) csum 0x110f [INODE_UNINIT, BLOCK_UNINIT]",
      "Group 2: (Blocks 65536-98303) csum 0x1111",
      "",
    ].join("\n");
    expect(zeroedTableCommands(text)).toBe("set_bg 1 flags 7\nset_bg 1 checksum calc\nset_bg 2 flags 4\nset_bg 2 checksum calc\n");
    expect(zeroedTableCommands("")).toBe("");
  });

  it("has room for content and for many small files", () => {
    expect(imageBytes(100 * MIB, 1000)).toBeGreaterThan(260 * MIB);
    expect(imageBytes(10 * MIB, 200_000) / 16_384).toBeGreaterThan(220_000);
    expect(imageBytes(1, 1) % (128 * MIB)).toBe(0);
  });
});

describe("checkFile", () => {
  const written = async (bytes = 3 * MIB): Promise<string> => {
    const file = path.join(directory, "image.raw");
    await fs.writeFile(file, Buffer.alloc(bytes, 9));
    return file;
  };
  const overwrite = async (file: string, at: number): Promise<void> => {
    const handle = await fs.open(file, "r+");
    await handle.write(Buffer.from("broken"), 0, 6, at);
    await handle.close();
  };

  it("[IMG-7] accepts what was recorded, also with another time", async () => {
    const file = await written();
    const record = await recordFile(file, { full: true });
    await checkFile(file, record);
    await fs.utimes(file, 1, 1);
    await checkFile(file, record);
  });

  it("[IMG-7] missing, cut, overwritten at the start or in the middle are damage that names the file", async () => {
    const file = await written();
    const record = await recordFile(file, { full: true });
    await overwrite(file, 2 * MIB);
    await expect(checkFile(file, record)).rejects.toMatchObject({
      code: "disk_damaged",
      message: expect.stringContaining("image.raw") as unknown,
    });
    await overwrite(file, 100);
    await expect(checkFile(file, record)).rejects.toMatchObject({
      code: "disk_damaged",
      message: expect.stringContaining("beginning") as unknown,
    });
    await fs.truncate(file, 5);
    await expect(checkFile(file, record)).rejects.toMatchObject({
      code: "disk_damaged",
      message: expect.stringContaining("5 bytes") as unknown,
    });
    await fs.rm(file);
    await expect(checkFile(file, record)).rejects.toMatchObject({
      code: "disk_damaged",
      message: expect.stringContaining("missing") as unknown,
    });
  });

  it("[IMG-7] reads everything when asked to, whatever the time says", async () => {
    const file = await written();
    const record = await recordFile(file, { full: true });
    const { atime, mtime } = await fs.stat(file);
    await overwrite(file, 2 * MIB);
    await fs.utimes(file, atime, mtime);
    await expect(checkFile(file, record, { full: true })).rejects.toMatchObject({ code: "disk_damaged" });
  });

  it("[IMG-6] a size without a digest of everything is damaged as soon as it was touched", async () => {
    const file = await written();
    const record = await recordFile(file, { full: false });
    await checkFile(file, record);
    await fs.utimes(file, 1, 1);
    await expect(checkFile(file, record)).rejects.toMatchObject({ code: "disk_damaged" });
  });
});

describe("records", () => {
  it("[IMG-7] none is none; unreadable ones are damage", async () => {
    expect(await readImageRecord(directory)).toBeUndefined();
    expect(await readSizeRecord(path.join(directory, "image-5g.raw"))).toBeUndefined();
    for (const text of ["{", "[]", '{"format":2}', ""]) {
      await fs.writeFile(path.join(directory, "image.json"), text);
      await expect(readImageRecord(directory)).rejects.toMatchObject({ code: "disk_damaged" });
    }
  });
});
