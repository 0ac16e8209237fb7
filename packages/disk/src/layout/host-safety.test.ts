import fs from "node:fs/promises";
import path from "node:path";
import { describe, expect, it } from "vitest";

const SOURCES = path.resolve(import.meta.dirname, "..");

/** Files that start one of `programs` through `run`. */
async function callersOf(programs: readonly string[]): Promise<string[]> {
  const callers: string[] = [];
  for (const file of await fs.readdir(SOURCES, { recursive: true })) {
    if (!file.endsWith(".ts") || file.endsWith(".test.ts")) continue;
    const text = await fs.readFile(path.join(SOURCES, file), "utf8");
    if (programs.some((program) => text.includes(`run("${program}"`) || text.includes(`["${program}"`))) callers.push(file);
  }
  return callers.sort();
}

describe("what may interpret a file system", () => {
  it("[DISK-9] only the pool file is mounted", async () => {
    expect(await callersOf(["mount", "losetup"])).toEqual(["pool/loop.ts"]);
  });

  it("[DISK-9] only images are read as ext4, and clones by the confined check", async () => {
    const tools = ["e2fsck", "resize2fs", "debugfs", "dumpe2fs", "tune2fs"];
    expect(await callersOf(tools)).toEqual(["check/guest-disk.ts", "image/ext4.ts"]);
    expect(await callersOf(["mke2fs"])).toEqual(["image/build.ts"]);
  });
});
