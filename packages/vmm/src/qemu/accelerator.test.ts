import fs from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { silentLogger } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readVerdict, resolveAccelerator, verdictKey } from "./accelerator.ts";

const FACTS = { kernel: "6.1.0", cpu: "A", version: "10.0.2", program: "/usr/bin/qemu" };

describe("the verdict on the accelerator", () => {
  let directory: string;
  beforeAll(async () => {
    directory = await fs.mkdtemp(path.join(tmpdir(), "sprited-verdict-"));
  });
  afterAll(() => fs.rm(directory, { recursive: true }));

  const keep = async (text: string): Promise<string> => {
    const file = path.join(directory, "verdict.json");
    await fs.writeFile(file, text);
    return file;
  };

  test("holds for one host kernel, CPU, QEMU version and program", () => {
    const keys = [
      FACTS,
      { ...FACTS, kernel: "6.2.0" },
      { ...FACTS, cpu: "B" },
      { ...FACTS, version: "10.1" },
      { ...FACTS, program: "/opt/qemu" },
    ].map(verdictKey);
    expect(new Set(keys).size).toBe(keys.length);
    expect(verdictKey({ ...FACTS })).toBe(keys[0]);
  });

  test("is read back as long as nothing changed", async () => {
    const file = await keep(JSON.stringify({ key: verdictKey(FACTS), kind: "tcg", reason: "it hangs" }));
    expect(await readVerdict(file, verdictKey(FACTS))).toEqual({ kind: "tcg", reason: "it hangs" });
    expect(await readVerdict(file, verdictKey({ ...FACTS, kernel: "6.2.0" }))).toBeUndefined();
  });

  test.each(["", "{", "[]", '{"key":1}', '{"key":"k","kind":"xen","reason":""}'])(
    "is asked for anew when %j is what was kept",
    async (text) => {
      expect(await readVerdict(await keep(text), "k")).toBeUndefined();
      expect(await readVerdict(path.join(directory, "missing"), "k")).toBeUndefined();
    },
  );

  test("is not asked for when the settings name one", async () => {
    const never = async (): Promise<never> => {
      throw new Error("no VM is started");
    };
    const accelerator = await resolveAccelerator({
      wanted: "tcg",
      program: { path: "/nowhere", dataPaths: [] },
      version: "10.0.2",
      cachePath: path.join(directory, "none.json"),
      probeSpec: never,
      awaitGuest: never,
      logger: silentLogger,
    });
    expect(accelerator).toEqual({ kind: "tcg", reason: "set in the configuration" });
  });
});
