/** Commands without a terminal through the official client: output, input, exit, signals, sizes. */
import { createHash, randomBytes } from "node:crypto";
import { ExecError, type Sprite } from "@fly/sprites";
import { waitFor } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { finished, spawned, spawnToEnd, watchOutput } from "../kit/sdk-command.ts";
import { sdkOf, type Target, uniqueName } from "../kit/target.ts";

export function execCalls(target: () => Target): void {
  let sprite: Sprite;
  beforeAll(async () => {
    sprite = await sdkOf(target()).createSprite(uniqueName("exec"), { environment: { OF_SPRITE: "yes", OVERRIDDEN: "sprite" } });
  });
  afterAll(async () => {
    await sprite?.delete();
  });

  describe("output and exit", () => {
    test("exec splits on white space and gives the output", async () => {
      expect(await sprite.exec("echo hello  world")).toEqual({ stdout: "hello world\n", stderr: "", exitCode: 0 });
    });

    test("stdout and stderr stay apart", async () => {
      const result = await sprite.execFile("sh", ["-c", "echo out; echo err >&2; echo out2"]);
      expect(result).toEqual({ stdout: "out\nout2\n", stderr: "err\n", exitCode: 0 });
    });

    test("a failing command is an ExecError with its output", async () => {
      const error = await sprite.execFile("sh", ["-c", "echo before; echo why >&2; exit 42"]).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(ExecError);
      expect(error).toMatchObject({ exitCode: 42, stdout: "before\n", stderr: "why\n" });
    });

    test.each([0, 1, 127, 200, 255])("exit code %i arrives", async (code) => {
      expect((await spawnToEnd(sprite, ["sh", "-c", `exit ${code}`])).code).toBe(code);
    });

    test("a command that is not there ends with 127 and a word on stderr", async () => {
      const result = await spawnToEnd(sprite, ["no-such-program-anywhere"]);
      expect(result.code).toBe(127);
      expect(result.stderr.toString()).toContain("no-such-program-anywhere");
    });

    test("a file that cannot be executed ends with 126", async () => {
      const result = await spawnToEnd(sprite, ["/etc/passwd"]);
      expect(result.code).toBe(126);
      expect(result.stderr.length).toBeGreaterThan(0);
    });

    test("a missing directory ends with 126 and names it", async () => {
      const result = await spawnToEnd(sprite, ["pwd"], { cwd: "/no/such/directory" });
      expect(result.code).toBe(126);
      expect(result.stderr.toString()).toContain("/no/such/directory");
    });

    test("encodings and maxBuffer work as the client promises", async () => {
      expect((await sprite.execFile("printf", ["\\303\\244"], { encoding: "hex" as BufferEncoding })).stdout).toBe("c3a4");
      await expect(sprite.execFile("head", ["-c", "20000", "/dev/zero"], { maxBuffer: 1000 })).rejects.toThrow("maxBuffer");
    });
  });

  describe("environment and directory", () => {
    test("variables are added; HOME and PATH stay", async () => {
      const plain = (await sprite.execFile("sh", ["-c", "echo $HOME:$PATH"])).stdout;
      const added = (await sprite.execFile("sh", ["-c", "echo $HOME:$PATH; echo $ADDED"], { env: { ADDED: "x y=z" } })).stdout;
      expect(added).toBe(`${plain as string}x y=z\n`);
      expect(plain).toMatch(/^\/[^:]*:.*\/bin/);
    });

    test("the sprite's environment is there and the command's wins", async () => {
      const result = await sprite.execFile("sh", ["-c", "echo $OF_SPRITE $OVERRIDDEN"], { env: { OVERRIDDEN: "command" } });
      expect(result.stdout).toBe("yes command\n");
    });

    test("cwd is where the command runs", async () => {
      expect((await sprite.execFile("pwd", [], { cwd: "/tmp" })).stdout).toBe("/tmp\n");
    });

    test("odd characters in arguments survive", async () => {
      const odd = ["", " ", "a b", "+", "%2F", "&=?#", "ä→😀", "\n", "'\"\\", "-n"];
      const result = await spawnToEnd(sprite, ["sh", "-c", 'for a in "$@"; do printf "[%s]" "$a"; done', "sh", ...odd]);
      expect(result.stdout.toString()).toBe(odd.map((text) => `[${text}]`).join(""));
    });

    test("100 KB of arguments and 100 KB of environment arrive whole", async () => {
      const args = Array.from({ length: 10 }, () => randomBytes(5_000).toString("hex"));
      const value = randomBytes(50_000).toString("hex");
      const result = await spawnToEnd(sprite, ["sh", "-c", 'printf %s "$@" | sha256sum; printf %s "$BIG" | sha256sum', "sh", ...args], {
        env: { BIG: value },
      });
      expect(result.stderr.toString()).toBe("");
      expect(result.stdout.toString()).toBe(`${sha256(args.join(""))}  -\n${sha256(value)}  -\n`);
    });

    test("a single argument of 100 KB arrives whole", async () => {
      const text = randomBytes(50_000).toString("hex");
      expect((await spawnToEnd(sprite, ["sh", "-c", 'printf %s "$1" | sha256sum', "sh", text])).stdout.toString()).toBe(
        `${sha256(text)}  -\n`,
      );
    });
  });

  describe("input and output as bytes", () => {
    test("4 MiB of random bytes through cat come back the same", async () => {
      const input = randomBytes(4 * 1024 * 1024);
      const result = await spawnToEnd(sprite, ["cat"], { input });
      expect(result.code).toBe(0);
      expect(result.stdout.length).toBe(input.length);
      expect(sha256(result.stdout)).toBe(sha256(input));
    });

    test("the guest sees the same input bytes", async () => {
      const input = randomBytes(3_000_001);
      expect((await spawnToEnd(sprite, ["sha256sum"], { input })).stdout.toString()).toBe(`${sha256(input)}  -\n`);
    });

    test("empty input is an end of input", async () => {
      expect(await spawnToEnd(sprite, ["wc", "-c"])).toMatchObject({ code: 0, stdout: Buffer.from("0\n") });
    });

    test("input in many small writes keeps its order", async () => {
      const command = sprite.spawn("cat");
      const end = finished(command);
      await spawned(command);
      const lines = Array.from({ length: 500 }, (_, index) => `line ${index}\n`);
      for (const line of lines) command.stdin.write(line);
      command.stdin.end();
      expect((await end).stdout.toString()).toBe(lines.join(""));
    });

    test("eight commands that echo 4 MiB each at the same time all finish: neither direction waits for the other", async () => {
      const inputs = Array.from({ length: 8 }, () => randomBytes(4 * 1024 * 1024));
      const results = await Promise.all(inputs.map((input) => spawnToEnd(sprite, ["cat"], { input })));
      expect(results.map(({ code, stdout }) => [code, sha256(stdout)])).toEqual(inputs.map((input) => [0, sha256(input)]));
    });

    test("a command that ends before it read its input does not hang the client", async () => {
      const result = await spawnToEnd(sprite, ["true"], { input: randomBytes(200_000) });
      expect(result.code).toBe(0);
    });

    test("20 MiB of output lose nothing", async () => {
      const result = await spawnToEnd(sprite, ["sh", "-c", "yes 0123456789abcdef | head -c 20971520"]);
      expect(result.stdout.length).toBe(20_971_520);
      expect(sha256(result.stdout)).toBe(sha256(Buffer.alloc(20_971_520, "0123456789abcdef\n")));
    });

    test("output of both streams at once is complete", async () => {
      const script = "i=0; while [ $i -lt 2000 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done";
      const result = await spawnToEnd(sprite, ["sh", "-c", script]);
      const lines = (letter: string): string => Array.from({ length: 2000 }, (_, index) => `${letter}${index}\n`).join("");
      expect(result.stdout.toString()).toBe(lines("o"));
      expect(result.stderr.toString()).toBe(lines("e"));
    });
  });

  describe("signals", () => {
    test.each([
      ["SIGTERM", 143],
      ["TERM", 143],
      ["SIGKILL", 137],
      ["INT", 130],
      ["SIGHUP", 129],
      ["QUIT", 131],
    ])("kill(%s) of a sleeping command gives %i", async (signal, code) => {
      const command = sprite.spawn("sleep", ["100"]);
      const end = finished(command);
      await spawned(command);
      command.kill(signal);
      expect((await end).code).toBe(code);
    });

    test("a command may handle USR1 itself", async () => {
      const command = sprite.spawn("sh", ["-c", 'trap "echo got; exit 7" USR1; echo ready; while :; do sleep 0.05; done']);
      const end = finished(command);
      const output = watchOutput(command);
      await waitFor("the trap", { timeoutMs: 60_000 }, () => output.stdout().includes("ready"));
      command.signal("USR1");
      expect(await end).toMatchObject({ code: 7, stdout: Buffer.from("ready\ngot\n") });
    });

    test("a signal nobody knows leaves the command alone", async () => {
      const command = sprite.spawn("cat");
      const end = finished(command);
      await spawned(command);
      command.signal("SIGNONSENSE");
      command.stdin.end("alive");
      expect(await end).toMatchObject({ code: 0, stdout: Buffer.from("alive") });
    });
  });

  describe("many at once and in a row", () => {
    test("ten echos in parallel are all complete", async () => {
      const results = await Promise.all(Array.from({ length: 10 }, (_, index) => sprite.execFile("echo", [`parallel ${index}`])));
      expect(results.map(({ stdout }) => stdout)).toEqual(Array.from({ length: 10 }, (_, index) => `parallel ${index}\n`));
    });

    test("20 quick echos in a row are all complete", async () => {
      for (let index = 0; index < 20; index += 1) expect((await sprite.execFile("echo", [`row ${index}`])).stdout).toBe(`row ${index}\n`);
    });
  });

  describe("control mode", () => {
    test("falls back to direct exec and runs the command once", async () => {
      const file = `/tmp/${uniqueName("control")}`;
      const controlled = sdkOf(target(), { controlMode: true }).sprite(sprite.name);
      await controlled.execFile("sh", ["-c", `echo run >> ${file}`]);
      expect((await controlled.execFile("cat", [file])).stdout).toBe("run\n");
      const failed = await controlled.execFile("sh", ["-c", `echo run >> ${file}; exit 9`]).catch((error: unknown) => error);
      expect(failed).toMatchObject({ exitCode: 9 });
      expect((await sprite.execFile("cat", [file])).stdout).toBe("run\nrun\n");
      await sprite.execFile("rm", [file]);
    });
  });
}

export function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}
