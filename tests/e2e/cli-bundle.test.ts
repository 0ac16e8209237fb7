/** The bundle of the command line does what the sources do. */
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { bundleCli } from "../../tools/cli-bundle.ts";
import { CliApi, TOKEN } from "./cli-api.ts";
import { CliHome } from "./cli-run.ts";

const run = promisify(execFile);

let dir: string;
let api: CliApi;
let home: CliHome;

beforeAll(async () => {
  dir = await mkdtemp(path.join(tmpdir(), "cli-bundle-"));
  await bundleCli(dir);
});
afterAll(() => rm(dir, { recursive: true }));
beforeEach(async () => {
  api = await CliApi.start();
  api.add("dev");
  home = await CliHome.make({ SPRITES_API_URL: api.url, SPRITE_TOKEN: TOKEN });
});
afterEach(async () => {
  await api.kill();
  await home.remove();
});

describe("the bundle", () => {
  const sprite = (...args: string[]): Promise<{ stdout: string; stderr: string }> =>
    run(process.execPath, [path.join(dir, "sprite.mjs"), ...args], { env: home.env, cwd: home.dir });

  test("[CLI-10] prints its version and loads one small chunk for it", async () => {
    expect((await sprite("--version")).stdout).toMatch(/^sprite \d+\.\d+\.\d+\n$/);
    const entry = await readFile(path.join(dir, "sprite.mjs"), "utf8");
    const loadedAtOnce = [...entry.matchAll(/(?:from|import)"(\.\/chunks\/[^"]+)"/g)].map((match) => match[1] ?? "");
    for (const chunk of loadedAtOnce) expect((await readFile(path.join(dir, chunk), "utf8")).length).toBeLessThan(5000);
  });

  test("[CLI-23] runs commands and reports their exit code", async () => {
    expect((await sprite("exec", "-s", "dev", "--", "echo", "hi")).stdout).toBe("hi\n");
    await expect(sprite("exec", "-s", "dev", "--http-post", "--", "sh", "-c", "exit 4")).rejects.toMatchObject({ code: 4 });
    expect(JSON.parse((await sprite("list", "--json")).stdout)).toHaveLength(1);
  });

  test("[CLI-10] no chunk carries the schemas", async () => {
    for (const name of await readdir(path.join(dir, "chunks")))
      expect(await readFile(path.join(dir, "chunks", name), "utf8")).not.toContain("ZodType");
  });

  test("[CLI-10] building again leaves the chunks of the new bundle only", async () => {
    const before = await readdir(path.join(dir, "chunks"));
    await bundleCli(dir);
    expect(await readdir(path.join(dir, "chunks"))).toEqual(before);
  });
});
