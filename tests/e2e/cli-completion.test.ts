/** Completion with the shells that are installed here, and the answers that their scripts read. */
import { execFile, spawnSync } from "node:child_process";
import { chmod, readdir, stat, symlink, utimes, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CliApi, TOKEN } from "./cli-api.ts";
import { CliHome, SPRITE } from "./cli-run.ts";

const run = promisify(execFile);

let api: CliApi;
let home: CliHome;

beforeEach(async () => {
  api = await CliApi.start();
  api.add("dev");
  api.add("desk", { status: "running" });
  api.add("prod");
  home = await CliHome.make({ SPRITES_API_URL: api.url, SPRITE_TOKEN: TOKEN });
});

afterEach(async () => {
  await api.kill();
  await home.remove();
});

const answer = async (...words: string[]): Promise<string[]> => {
  const { code, out, err } = await home.run(["__complete", ...words]);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  return out.split("\n").filter((line) => line !== "");
};
/** The program asks the server for a second at most: on a busy machine the next Tab gets what the first one missed. */
const WAIT = { timeout: 120_000 };
const hasShell = (name: string): boolean => spawnSync(name, ["-c", "true"]).status === 0;

describe("what a Tab asks for", () => {
  test("[CLI-52] sprites with their status, sessions with their command", async () => {
    await expect.poll(() => answer("destroy", "de"), WAIT).toEqual(["dev\tcold", "desk\trunning"]);
    await expect.poll(() => answer("exec", "--sprite=p"), WAIT).toEqual(["--sprite=prod\tcold"]);
    api.program = () => {};
    const child = home.start(["exec", "--tty", "-s", "dev", "--", "vim", "notes"]);
    while (api.terminals.length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    await expect.poll(() => answer("attach", "-s", "dev", ""), WAIT).toEqual([`${api.terminals[0]?.id}\tvim notes`]);
    child.kill("SIGKILL");
  });

  test("[CLI-52] the second Tab asks nobody; what is remembered is private and holds no token", async () => {
    await expect.poll(() => answer("destroy", ""), WAIT).toHaveLength(3);
    const dir = path.join(home.dir, ".cache/sprite");
    const files = (await readdir(dir)).filter((name) => name.startsWith("complete-"));
    expect(files).toHaveLength(1);
    // However long the next Tab takes to start here, what is remembered is fresh.
    const later = Date.now() / 1000 + 3600;
    await utimes(path.join(dir, files[0] ?? ""), later, later);
    const before = api.requests.length;
    expect(await answer("-s", "pr")).toEqual(["prod\tcold"]);
    expect(api.requests).toHaveLength(before);
    expect((await stat(path.join(dir, files[0] ?? ""))).mode & 0o777).toBe(0o600);
    expect((await run("grep", ["-rc", TOKEN.slice(-12), dir]).catch((error: { stdout: string }) => error)).stdout).not.toMatch(/:[1-9]/);
  });

  test("[CLI-52] no server, no token, no sprite chosen: nothing, at once, without a word", async () => {
    expect(await answer("attach", "")).toEqual([]);
    await api.kill();
    expect(await answer("destroy", "")).toEqual([]);
    home.env["SPRITE_TOKEN"] = "";
    expect(await answer("destroy", "")).toEqual([]);
  });
});

describe("shells", () => {
  /** Directory with a `sprite` for PATH, and the script of `shell` in a file. */
  async function install(shell: string): Promise<string> {
    const file = path.join(home.dir, `completion.${shell}`);
    await writeFile(file, (await home.run(["completion", shell])).out);
    await symlink(SPRITE, path.join(home.dir, "sprite"));
    await chmod(file, 0o644);
    home.env["PATH"] = `${home.dir}:${home.env["PATH"]}`;
    return file;
  }

  test.skipIf(!hasShell("bash"))("[CLI-51] bash completes commands, flags and names", async () => {
    const file = await install("bash");
    const complete = async (line: string): Promise<string[]> => {
      // What readline does: the words of the line, the one under the cursor last.
      const probe = `source ${file}; COMP_WORDS=(${line.endsWith(" ") ? `${line} ""` : line}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _sprite sprite; printf '%s\\n' "\${COMPREPLY[@]}"`;
      const { stdout } = await run("bash", ["--norc", "-c", probe], { env: home.env });
      return stdout.split("\n").filter((word) => word !== "");
    };
    await expect.poll(async () => (await complete("sprite con")).sort(), WAIT).toEqual(["config", "console"]);
    await expect.poll(() => complete("sprite exec --http"), WAIT).toEqual(["--http-post"]);
    await expect.poll(() => complete("sprite destroy de"), WAIT).toEqual(["dev", "desk"]);
    await expect.poll(() => complete("sprite -s "), WAIT).toEqual(["dev", "desk", "prod"]);
    await expect.poll(() => complete("sprite exec --sprite = pr"), WAIT).toEqual(["prod"]);
    await expect.poll(() => complete("sprite nonsense "), WAIT).toEqual([]);
  });

  test.skipIf(!hasShell("zsh"))("[CLI-51] zsh takes its script and offers values with descriptions", async () => {
    const file = await install("zsh");
    const probe = `compdef() { :; }; source ${file}; _describe() { print -rl -- "\${(@P)4}"; }; words=(sprite destroy de); CURRENT=3; _sprite`;
    const complete = async (): Promise<string[]> => (await run("zsh", ["-f", "-c", probe], { env: home.env })).stdout.trim().split("\n");
    await expect.poll(complete, WAIT).toEqual(["dev:cold", "desk:running"]);
  });

  test.skipIf(!hasShell("fish"))("[CLI-51] fish completes commands and names with descriptions", async () => {
    const file = await install("fish");
    const complete = async (line: string): Promise<string[]> =>
      (await run("fish", ["--no-config", "-c", `source ${file}; complete -C '${line}'`], { env: home.env })).stdout.trim().split("\n");
    await expect.poll(() => complete("sprite destroy de"), WAIT).toEqual(["desk\trunning", "dev\tcold"]);
    await expect.poll(() => complete("sprite comp"), WAIT).toEqual(["completion\tcomplete commands and names with Tab"]);
  });
});
