import { mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { spawn } from "node:child_process";
import { sleep } from "@sprited/base";
import { expect, test } from "vitest";
import { bareInitrd, sleepingProgram } from "./bare-guest.ts";
import { cpuSeconds } from "./proc.ts";

test("the sleeping program runs, sleeps without using CPU, and ends by a signal", async () => {
  const directory = await mkdtemp(path.join(os.tmpdir(), "bare-guest-"));
  try {
    const file = path.join(directory, "init");
    await writeFile(file, sleepingProgram(), { mode: 0o755 });
    const child = spawn(file);
    const ended = new Promise((resolve) => child.on("exit", (code, signal) => resolve([code, signal])));
    await sleep(100);
    expect(child.exitCode).toBeNull();
    expect(await cpuSeconds(child.pid ?? 0)).toBeLessThan(0.03);
    child.kill("SIGTERM");
    expect(await ended).toEqual([null, "SIGTERM"]);
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("the initrd is one executable /init and a trailer, aligned to four bytes", () => {
  const archive = bareInitrd();
  const program = sleepingProgram();
  const field = (at: number, index: number): number =>
    Number.parseInt(archive.toString("latin1", at + 6 + 8 * index, at + 14 + 8 * index), 16);
  expect(archive.toString("latin1", 0, 6)).toBe("070701");
  expect([field(0, 1), field(0, 6), field(0, 11)]).toEqual([0o100755, program.length, 5]);
  expect(archive.toString("latin1", 110, 115)).toBe("init\0");
  expect(archive.subarray(116, 116 + program.length).equals(program)).toBe(true);
  const trailer = 116 + program.length + ((4 - (program.length % 4)) % 4);
  expect(archive.toString("latin1", trailer, trailer + 6)).toBe("070701");
  expect(archive.toString("latin1", trailer + 110, trailer + 121)).toBe("TRAILER!!!\0");
  expect(archive.length % 4).toBe(0);
});
