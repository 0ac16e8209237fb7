import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DiskError } from "../errors.ts";
import { canReflink, cloneFile } from "./clone-file.ts";
import { asDiskError } from "./fs-error.ts";

let directory = "";
beforeEach(async () => {
  directory = await fs.mkdtemp(path.join(os.tmpdir(), "sprited-clone-"));
});
afterEach(async () => {
  await fs.rm(directory, { recursive: true });
});

describe("cloneFile", () => {
  it("[DISK-5] copies content and holes, and leaves no other name", async () => {
    const source = path.join(directory, "source");
    const target = path.join(directory, "target");
    await fs.writeFile(source, Buffer.alloc(4096, 7));
    await fs.truncate(source, 64 * 1024 * 1024);
    await cloneFile(source, target, { kind: "copy" });
    const [a, b] = await Promise.all([fs.readFile(source), fs.readFile(target)]);
    expect(a.equals(b)).toBe(true);
    expect((await fs.stat(target)).blocks * 512).toBeLessThan(1024 * 1024);
    expect((await fs.readdir(directory)).sort()).toEqual(["source", "target"]);
  });

  it("[DISK-7] a missing source is damage, and nothing is left", async () => {
    for (const kind of ["copy", "reflink"] as const) {
      await expect(cloneFile(path.join(directory, "none"), path.join(directory, "target"), { kind })).rejects.toMatchObject({
        code: "disk_damaged",
      });
    }
    expect(await fs.readdir(directory)).toEqual([]);
  });

  it("stops when it is aborted before it began", async () => {
    await fs.writeFile(path.join(directory, "source"), "x");
    const signal = AbortSignal.abort(new Error("no longer wanted"));
    await expect(cloneFile(path.join(directory, "source"), path.join(directory, "target"), { kind: "copy", signal })).rejects.toThrow(
      "no longer wanted",
    );
    expect(await fs.readdir(directory)).toEqual(["source"]);
  });

  it("[DISK-1] trying for reflinks leaves nothing behind", async () => {
    expect(typeof (await canReflink(directory))).toBe("boolean");
    expect(await fs.readdir(directory)).toEqual([]);
  });
});

describe("asDiskError", () => {
  const system = (code: string): Error => Object.assign(new Error(`${code}: secret detail`), { code });

  it.each([
    ["ENOSPC", "disk_full"],
    ["EDQUOT", "disk_full"],
    ["ENOENT", "disk_damaged"],
    ["EIO", "disk_io"],
    ["EACCES", "disk_io"],
  ])("[DISK-7] %s is %s, without the cause's words", (code, expected) => {
    const error = asDiskError(system(code), "cloning a.raw");
    expect(error).toMatchObject({ code: expected });
    expect((error as DiskError).message).not.toContain("secret");
  });

  it("passes its own errors and foreign ones unchanged", () => {
    const own = new DiskError("disk_size", "too large");
    const foreign = new TypeError("bug");
    expect(asDiskError(own, "x")).toBe(own);
    expect(asDiskError(foreign, "x")).toBe(foreign);
  });
});
