import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { giveBackFile, reserveFile, unreservedBytes } from "./reserve.ts";

const SIZE = 1024 * 1024;

let directory: string;
beforeEach(async () => {
  directory = await fs.mkdtemp(path.join(os.tmpdir(), "sprited-reserve-"));
});
afterEach(() => fs.rm(directory, { recursive: true }));

test("a sparse file gets room for all of it and keeps its content", async () => {
  const file = path.join(directory, "ram");
  await fs.writeFile(file, "begun");
  await fs.truncate(file, SIZE);
  expect(await unreservedBytes(file)).toBeGreaterThan(SIZE / 2);
  await reserveFile(file, "the memory");
  expect(await unreservedBytes(file)).toBe(0);
  expect((await fs.readFile(file)).equals(Buffer.concat([Buffer.from("begun"), Buffer.alloc(SIZE - 5)]))).toBe(true);
});

test("what was reserved and not written is given back in place; what was written stays, also zeros", async () => {
  const file = path.join(directory, "ram");
  await fs.writeFile(file, "begun");
  await fs.truncate(file, SIZE);
  await reserveFile(file, "the memory");
  const { ino } = await fs.stat(file);
  await using handle = await fs.open(file, "r+");
  await handle.write(Buffer.alloc(8192), 0, 8192, SIZE / 2);
  await handle.write(Buffer.from("end"), 0, 3, SIZE - 3);
  const content = await fs.readFile(file);
  await giveBackFile(file, "the memory");
  expect(await unreservedBytes(file)).toBeGreaterThan(SIZE - 8 * 4096);
  expect((await fs.readFile(file)).equals(content)).toBe(true);
  expect((await fs.stat(file)).ino).toBe(ino);
  await giveBackFile(file, "the memory");
  await reserveFile(file, "the memory");
  expect(await unreservedBytes(file)).toBe(0);
});

test("no room is said with a code", async () => {
  const file = path.join(directory, "ram");
  await fs.writeFile(file, "");
  await fs.truncate(file, 2 ** 42);
  await expect(reserveFile(file, "the memory")).rejects.toMatchObject({ code: "disk_full", message: /^the memory does not fit/ });
});
