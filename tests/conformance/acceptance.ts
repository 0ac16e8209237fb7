/** The acceptance list of the official SDKs' own harness, line by line. */
import type { Sprite } from "@fly/sprites";
import { sleep } from "@sprited/base";
import { afterAll, beforeAll, expect, test } from "vitest";
import { finished, spawned, spawnToEnd, watchOutput } from "../kit/sdk-command.ts";
import { sdkOf, type Target, uniqueName } from "../kit/target.ts";
import { apiErrorOf } from "./sprite-calls.ts";

export function acceptance(target: () => Target): void {
  let sprite: Sprite;
  beforeAll(async () => {
    sprite = await sdkOf(target()).createSprite(uniqueName("accept"));
    await sprite.execFile("true");
  });
  afterAll(async () => {
    await sprite?.delete();
  });

  const terminal = async (argv: string[], size: { rows?: number; cols?: number } = {}): Promise<{ code: number; text: string }> => {
    const result = await spawnToEnd(sprite, argv, { tty: true, ...size });
    return { code: result.code, text: result.stdout.toString().replaceAll("\r\n", "\n") };
  };

  test("echo, stdout only", async () => {
    expect((await sprite.exec("echo hello")).stdout).toBe("hello\n");
  });

  test("echo, combined with stderr", async () => {
    const result = await spawnToEnd(sprite, ["sh", "-c", "echo out; echo err >&2"]);
    expect(result.stdout.toString() + result.stderr.toString()).toBe("out\nerr\n");
  });

  test("five quick echos in a row", async () => {
    for (let index = 0; index < 5; index += 1) expect((await sprite.exec(`echo quick${index}`)).stdout).toBe(`quick${index}\n`);
  });

  test("ten echos in parallel", async () => {
    const outputs = await Promise.all(Array.from({ length: 10 }, async (_, index) => (await sprite.exec(`echo p${index}`)).stdout));
    expect(outputs).toEqual(Array.from({ length: 10 }, (_, index) => `p${index}\n`));
  });

  test("an echo ends within 5 s", async () => {
    const startedMs = performance.now();
    await sprite.exec("echo fast");
    expect(performance.now() - startedMs).toBeLessThan(5_000);
  });

  test("sleep 10 with a limit of 2 s has neither ended nor succeeded", async () => {
    const command = sprite.spawn("sleep", ["10"]);
    const end = finished(command);
    await spawned(command);
    const outcome = await Promise.race([end.then(({ code }) => code), sleep(2_000).then(() => "late")]);
    expect(outcome).toBe("late");
    command.kill();
    expect((await end).code).toBe(143);
  });

  test("sh -c with a pipe", async () => {
    expect((await sprite.execFile("sh", ["-c", "echo hello world | tr a-z A-Z"])).stdout).toBe("HELLO WORLD\n");
  });

  test("TTY echo", async () => {
    expect(await terminal(["echo", "in a terminal"])).toEqual({ code: 0, text: "in a terminal\n" });
  });

  test("tty in a terminal names it and succeeds", async () => {
    const { code, text } = await terminal(["tty"]);
    expect(text).toMatch(/^\/dev\/pts\/\d+\n$/);
    expect(code).toBe(0);
  });

  test("tty without a terminal", async () => {
    const result = await spawnToEnd(sprite, ["tty"]);
    expect(result).toMatchObject({ code: 1, stdout: Buffer.from("not a tty\n") });
  });

  test("stty size with 24×80", async () => {
    expect(await terminal(["stty", "size"], { rows: 24, cols: 80 })).toEqual({ code: 0, text: "24 80\n" });
  });

  test("pwd without a directory is the user's home", async () => {
    const result = await sprite.execFile("sh", ["-c", "pwd; cd; pwd"]);
    const [start, home] = (result.stdout as string).split("\n");
    expect(start).toBe(home);
    if (target().kind === "vm") expect(start).toBe("/home/sprite");
  });

  test("dir=/tmp", async () => {
    expect((await sprite.execFile("pwd", [], { cwd: "/tmp" })).stdout).toBe("/tmp\n");
  });

  test("added variables are visible, HOME and PATH unchanged", async () => {
    const before = (await sprite.execFile("sh", ["-c", "echo $HOME $PATH"])).stdout;
    const result = await sprite.execFile("sh", ["-c", "echo $HOME $PATH; echo $ONE-$TWO"], { env: { ONE: "1", TWO: "2" } });
    expect(result.stdout).toBe(`${before as string}1-2\n`);
  });

  test("sh -c 'exit 42'", async () => {
    expect((await spawnToEnd(sprite, ["sh", "-c", "exit 42"])).code).toBe(42);
  });

  test.each([["one line\n"], ["one\ntwo\nthree\n"]])("input %j is echoed exactly and ends at its end", async (input) => {
    expect(await spawnToEnd(sprite, ["cat"], { input })).toMatchObject({ code: 0, stdout: Buffer.from(input) });
  });

  test("get after delete is an error", async () => {
    const client = sdkOf(target());
    const short = await client.createSprite(uniqueName("short"));
    await short.delete();
    expect((await apiErrorOf(client.getSprite(short.name))).statusCode).toBe(404);
  });

  test("create, listed, used, deleted", async () => {
    const client = sdkOf(target());
    const other = await client.createSprite(uniqueName("life"));
    try {
      expect((await client.listAllSprites(other.name)).map(({ name }) => name)).toEqual([other.name]);
      const command = other.spawn("sh", ["-c", "echo alive"]);
      const output = watchOutput(command);
      expect((await finished(command)).code).toBe(0);
      expect(output.stdout()).toBe("alive\n");
    } finally {
      await other.delete();
    }
  });
}
