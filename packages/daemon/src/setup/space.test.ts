import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { SetupError } from "./errors.ts";
import { markFinished, readFinished } from "./finished.ts";
import { freeBytesAt, requireSpace, SPACE_NEEDS } from "./space.ts";

let directory = "";
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "space-"));
});
afterEach(async () => rm(directory, { recursive: true, force: true }));

describe("requireSpace", () => {
  const floorBytes = 1_000_000;

  it("is content when everything fits exactly", () => {
    const freeBytes = SPACE_NEEDS.system + SPACE_NEEDS.snapshot + floorBytes;
    expect(() => requireSpace("/home", { freeBytes, floorBytes, needs: ["system", "snapshot"] })).not.toThrow();
  });

  it("refuses with needed, kept and free, and says what to do", () => {
    const refuse = (): void => requireSpace("/s", { freeBytes: 2 ** 30, floorBytes: 5 * 2 ** 30, needs: ["image:default"] });
    expect(refuse).toThrow(SetupError);
    expect(refuse).toThrow(/\/s: 7\.0 GiB are needed .* plus 5\.0 GiB .* 1\.0 GiB are free.*SPRITED_HOME/s);
  });

  it("asks for nothing when nothing is to be made, however full the disk is", () => {
    expect(() => requireSpace("/s", { freeBytes: 0, floorBytes, needs: [] })).not.toThrow();
  });
});

describe("freeBytesAt", () => {
  it("asks the nearest directory that exists", async () => {
    const free = await freeBytesAt(path.join(directory, "not", "yet", "there"));
    expect(free).toBeGreaterThan(0);
    expect(Math.abs(free - (await freeBytesAt(directory)))).toBeLessThan(2 ** 30);
  });
});

describe("finished steps", () => {
  it("are remembered, each once, without leftovers", async () => {
    await markFinished(directory, "system");
    await markFinished(directory, "image:minimal");
    await markFinished(directory, "system");
    expect([...(await readFinished(directory))]).toEqual(["system", "image:minimal"]);
    expect(await readdir(directory)).toEqual(["setup.json"]);
  });

  it.each(["", "{", '{"format":2,"finished":["x"]}', '{"format":1,"finished":"x"}'])(
    "count as none when the file holds %j",
    async (content) => {
      await writeFile(path.join(directory, "setup.json"), content);
      expect((await readFinished(directory)).size).toBe(0);
      await markFinished(directory, "system");
      expect([...(await readFinished(directory))]).toEqual(["system"]);
    },
  );
});
