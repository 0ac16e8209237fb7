import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { run } from "@sprited/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkGuestDisk, confined } from "./guest-disk.ts";

const UID = 1_900_065_535;
const isRoot = process.getuid?.() === 0;
let directory = "";

beforeEach(async () => {
  directory = await fs.mkdtemp(path.join(os.tmpdir(), "sprited-check-"));
  await fs.chmod(directory, 0o711);
});
afterEach(() => fs.rm(directory, { recursive: true }));

async function fileSystem(): Promise<string> {
  const file = path.join(directory, "disk.raw");
  await fs.writeFile(file, "");
  await fs.truncate(file, 32 * 1024 * 1024);
  await run("mkfs.ext4", ["-q", "-F", "-O", "64bit,metadata_csum", file]);
  return file;
}

const check = (file: string) => checkGuestDisk(file, { uid: UID, isRoot });

describe("checking a clone", () => {
  it("[DISK-10] a sound file system passes", async () => {
    expect(await check(await fileSystem())).toMatchObject({ healthy: true });
  });

  it("[DISK-10] one with damaged tables does not, nor does something else", async () => {
    const file = await fileSystem();
    const handle = await fs.open(file, "r+");
    await handle.write(Buffer.alloc(256 * 1024, 0xa5), 0, 256 * 1024, 4096);
    await handle.close();
    expect((await check(file)).healthy).toBe(false);
    await fs.writeFile(file, "no file system at all");
    expect((await check(file)).healthy).toBe(false);
  });

  it("[DISK-10] what cannot be checked is no verdict", async () => {
    const file = await fileSystem();
    await expect(checkGuestDisk(file, { uid: UID, isRoot, signal: AbortSignal.abort(new Error("stopped")) })).rejects.toThrow("stopped");
    await expect(check(path.join(directory, "missing"))).rejects.toThrow();
  });

  it.runIf(isRoot)("[DISK-10] the checker is nobody: no rights, no network, no other process, bounded memory", async () => {
    const script =
      "id -u; grep -c . /proc/net/dev; grep CapEff /proc/self/status; grep CapBnd /proc/self/status; grep NoNewPrivs /proc/self/status; ulimit -v";
    const [program = "", ...args] = confined(["sh", "-c", script], { uid: UID, isRoot });
    const { stdout } = await run(program, args, { cwd: "/" });
    expect(stdout.split("\n").map((line) => line.replace(/\s+/g, " "))).toEqual([
      String(UID),
      "3",
      "CapEff: 0000000000000000",
      "CapBnd: 0000000000000000",
      "NoNewPrivs: 1",
      String(2 * 1024 * 1024),
      "",
    ]);
  });
});
