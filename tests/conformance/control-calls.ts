/** `controlMode: true` of the official client against a server that offers control connections. */
import type { ExecError, Sprite } from "@fly/sprites";
import { waitFor } from "@sprited/base";
import { afterAll, beforeAll, expect, test } from "vitest";
import { sdkOf, type Target, uniqueName } from "../kit/target.ts";
import { sha256 } from "./exec-calls.ts";

export function controlCalls(target: () => Target, upgrades: () => { control: number; exec: number }): void {
  let sprite: Sprite;
  beforeAll(async () => {
    sprite = await sdkOf(target(), { controlMode: true }).createSprite(uniqueName("control"));
  });
  afterAll(async () => {
    sprite?.closeControlConnection();
    await sprite?.delete();
  });

  test("[CTRL-4][CTRL-6] execFile and exec: output of both streams, environment, directory", async () => {
    expect(await sprite.execFile("sh", ["-c", "echo out; echo err >&2"])).toEqual({ stdout: "out\n", stderr: "err\n", exitCode: 0 });
    expect((await sprite.exec("echo a b")).stdout).toBe("a b\n");
    expect((await sprite.execFile("sh", ["-c", "pwd; echo $A"], { cwd: "/tmp", env: { A: "b c" } })).stdout).toBe("/tmp\nb c\n");
    expect((await sprite.execFile("wc", ["-c"])).stdout).toBe("0\n"); // it ends the input at once
  });

  test("[CTRL-6] 50 in sequence go over one connection, none over ordinary exec", async () => {
    const before = upgrades();
    for (let index = 0; index < 50; index += 1) expect((await sprite.execFile("echo", [String(index)])).stdout).toBe(`${index}\n`);
    expect(sprite.hasControlConnection()).toBe(true);
    expect(upgrades()).toEqual(before);
  });

  test("[CTRL-6] 12 at once share a pool of connections", async () => {
    const results = await Promise.all(Array.from({ length: 12 }, (_, index) => sprite.execFile("sh", ["-c", `sleep 0.1; echo ${index}`])));
    expect(results.map(({ stdout }) => stdout)).toEqual(Array.from({ length: 12 }, (_, index) => `${index}\n`));
  });

  test("[CTRL-4] 2 MB of output are complete, also as bytes", async () => {
    const result = await sprite.execFile("sh", ["-c", "yes abcdefg | head -c 2000000"], { encoding: "latin1" });
    expect(sha256(Buffer.from(result.stdout as string, "latin1"))).toBe(sha256(Buffer.alloc(2_000_000, "abcdefg\n")));
  });

  test("[CTRL-3] a terminal of the asked size", async () => {
    const result = await sprite.execFile("sh", ["-c", "stty size; tty >/dev/null && echo terminal"], { tty: true, rows: 33, cols: 99 });
    expect(result.stdout).toBe("33 99\r\nterminal\r\n");
  });

  test("[CTRL-5] too much output: the client's signal arrives", async () => {
    const command = `sleep-${uniqueName("x")}`;
    const failed = sprite.execFile("sh", ["-c", `echo 12345678; exec -a ${command} sleep 60`], { maxBuffer: 4 });
    await expect(failed).rejects.toThrow("maxBuffer");
    await waitFor("the end of both runs", { timeoutMs: 20_000, everyMs: 100 }, async () => {
      const sessions = await sdkOf(target()).sprite(sprite.name).listSessions();
      return sessions.every((session) => !session.command.includes(command));
    });
  });

  /**
   * A fault of the client: every rejection counts as a failed connection, and the command is run again by ordinary
   * exec. It is the reason why control connections are off by default. When this fails, the client was repaired.
   */
  test("[CTRL-7] a command that fails runs twice, once over control and once over ordinary exec", async () => {
    const file = `/tmp/${uniqueName("twice")}`;
    const before = upgrades();
    const failed = (await sprite.execFile("sh", ["-c", `echo run >> ${file}; exit 42`]).catch((error: unknown) => error)) as ExecError;
    expect(failed).toMatchObject({ exitCode: 42 });
    expect((await sprite.execFile("cat", [file])).stdout).toBe("run\nrun\n");
    expect(upgrades()).toEqual({ control: before.control, exec: before.exec + 1 });
  });

  test("[CTRL-7] a command that cannot be started is op.error, and the client's second try says why", async () => {
    const failed = (await sprite.execFile("no-such-command").catch((error: unknown) => error)) as ExecError;
    expect(failed).toMatchObject({ exitCode: 127 });
    expect((await sprite.execFile("echo", ["usable"])).stdout).toBe("usable\n");
  });

  test("[CTRL-9] a closed pool is opened again by the next command", async () => {
    sprite.closeControlConnection();
    expect((await sprite.execFile("echo", ["again"])).stdout).toBe("again\n");
  });
}
