/** A snapshot that is resumed once: used up before QEMU is told, given back while it was not. */
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { usedUp } from "./once.ts";

let directory: string;
let state: string;
beforeEach(async () => {
  directory = await fs.mkdtemp(path.join(os.tmpdir(), "once-"));
  state = path.join(directory, "state");
  await fs.writeFile(state, "devices");
});
afterEach(() => fs.rm(directory, { recursive: true }));

describe("a snapshot that is resumed once", () => {
  test("is gone from its place when QEMU is about to be told", async () => {
    await usedUp(state, async () => {});
    await expect(fs.stat(state)).rejects.toThrow("ENOENT");
  });

  test("is as it was when QEMU cannot be told, whichever of the two ends first", async () => {
    await expect(usedUp(state, () => Promise.reject(new Error("no socket")))).rejects.toThrow("no socket");
    expect(await fs.readFile(state, "utf8")).toBe("devices");
    const late = new Promise<void>((_resolve, reject) => setTimeout(() => reject(new Error("too late")), 50));
    await expect(usedUp(state, () => late)).rejects.toThrow("too late");
    expect(await fs.readFile(state, "utf8")).toBe("devices");
  });

  test("that is missing is told", async () => {
    await fs.rm(state);
    await expect(usedUp(state, async () => {})).rejects.toThrow("ENOENT");
  });

  test("nothing is moved for a snapshot that many VMs share", async () => {
    let connected = false;
    await usedUp(undefined, async () => {
      connected = true;
    });
    expect(connected).toBe(true);
    expect(await fs.readFile(state, "utf8")).toBe("devices");
  });
});
