/** `sprite exec` as a process, against a small API that runs commands on this machine. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { waitFor } from "@sprited/base";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CliApi, TOKEN } from "./cli-api.ts";
import { CliHome, collect } from "./cli-run.ts";

let api: CliApi;
let home: CliHome;

beforeEach(async () => {
  api = await CliApi.start();
  api.add("dev");
  home = await CliHome.make({ SPRITES_API_URL: api.url, SPRITE_TOKEN: TOKEN });
});

afterEach(async () => {
  await api.kill();
  await home.remove();
});

/** Both ways to run a command, which must not differ in what the user sees. */
describe.each([
  ["WebSocket", [] as string[]],
  ["HTTP", ["--http-post"]],
])("exec over %s", (_, flags) => {
  const exec = (args: readonly string[], options: Parameters<CliHome["run"]>[1] = {}): ReturnType<CliHome["run"]> =>
    home.run(["exec", "-s", "dev", ...flags, ...args], options);

  test("[CLI-20] arguments arrive unchanged, whatever they look like", async () => {
    const words = ["-s", "--tty", "a b", "$HOME", "", "*", "ü€", "--"];
    const result = await exec(["printf", "%s\\n", ...words]);
    expect(result.out).toBe(words.map((word) => `${word}\n`).join(""));
    expect((await exec(["--", "echo", "-n", "hi"])).out).toBe("hi");
  });

  test("[CLI-20] --dir and --env reach the command", async () => {
    const result = await exec(["--dir", "/tmp", "--env", "A=1,B=x,y", "--env", "C=d=e", "--", "sh", "-c", "pwd; echo $A/$B/$C"]);
    expect(result.out).toBe("/tmp\n1/x,y/d=e\n");
  });

  test("[CLI-21] standard input is piped through, unchanged, to its end", async () => {
    const input = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 7919) & 0xff));
    const result = await exec(["cat"], { input });
    expect(result.code).toBe(0);
    expect(result.stdout.equals(input)).toBe(true);
  });

  test("[CLI-21] --no-stdin gives the command an empty input and leaves ours alone", async () => {
    const child = home.start(["exec", "-s", "dev", ...flags, "--no-stdin", "cat"]);
    expect(await collect(child)).toMatchObject({ code: 0, out: "" });
  });

  test("[CLI-21] a command that does not read its input ends although ours stays open", async () => {
    const child = home.start(["exec", "-s", "dev", ...flags, "echo", "done"]);
    expect(await collect(child)).toMatchObject({ code: 0, out: "done\n" });
  });

  test("[CLI-22] standard output and error stay apart; 8 MB arrive complete at a slow reader", async () => {
    const result = await exec(["sh", "-c", "echo out; echo err >&2"]);
    expect(result).toMatchObject({ out: "out\n", err: "err\n" });
    const child = home.start([
      "exec",
      "-s",
      "dev",
      ...flags,
      "--no-stdin",
      "--",
      "sh",
      "-c",
      "head -c 8000000 /dev/zero | tr '\\0' x; echo end",
    ]);
    const hash = createHash("sha256");
    let bytes = 0;
    child.stdout?.on("data", (data: Buffer) => {
      hash.update(data);
      bytes += data.length;
      child.stdout?.pause();
      setTimeout(() => child.stdout?.resume(), 2);
    });
    const [code] = (await once(child, "close")) as [number];
    expect({ code, bytes }).toEqual({ code: 0, bytes: 8_000_004 });
    expect(hash.digest("hex")).toBe(
      createHash("sha256")
        .update(`${"x".repeat(8_000_000)}end\n`)
        .digest("hex"),
    );
  });

  test.each([
    ["exit 0", 0],
    ["exit 7", 7],
    ["exit 255", 255],
    ["kill -TERM $$", 143],
    ["kill -KILL $$", 137],
  ])("[CLI-23] the exit code of `%s` is %i", async (script, code) => {
    expect((await exec(["sh", "-c", script])).code).toBe(code);
  });

  test("[CLI-25] a reader that leaves early ends it without a message", async () => {
    const child = home.start(["exec", "-s", "dev", ...flags, "--no-stdin", "--", "yes"]);
    let err = "";
    child.stderr?.on("data", (data: Buffer) => (err += data.toString()));
    child.stdout?.once("data", () => child.stdout?.destroy());
    const [code] = (await once(child, "close")) as [number];
    expect({ code, err }).toEqual({ code: 141, err: "" });
  });

  test("[CLI-8] an unknown sprite and a bad token are said in two lines", async () => {
    const ghost = await home.run(["exec", "-s", "ghost", ...flags, "true"]);
    expect(ghost.code).toBe(1);
    expect(ghost.err).toBe(
      "error: There is no sprite of this name.\n`sprite list` shows the sprites there are, `sprite create NAME` makes one.\n",
    );
    const stranger = await exec(["true"], { env: { SPRITE_TOKEN: "wrong" } });
    expect(stranger.err).toContain("error: The token is not valid.");
  });
});

describe("exec", () => {
  test("[CLI-23] 127 for a command that is not there", async () => {
    expect(await home.run(["x", "-s", "dev", "no-such-command"])).toMatchObject({ code: 127, err: "no-such-command: not found\n" });
  });

  test("[CLI-24] an interrupt goes to the command, whose exit code counts", async () => {
    const child = home.start([
      "exec",
      "-s",
      "dev",
      "--",
      "sh",
      "-c",
      "trap 'echo got it; exit 5' INT; echo ready; while :; do sleep 0.05; done",
    ]);
    child.stdout?.on("data", (data: Buffer) => data.includes("ready") && child.kill("SIGINT"));
    expect(await collect(child)).toMatchObject({ code: 5, out: "ready\ngot it\n" });
    expect(api.signals).toEqual(["INT"]);
  });

  test("[CLI-24] a second interrupt leaves a command that does not react", async () => {
    const child = home.start(["exec", "-s", "dev", "--", "sh", "-c", "trap '' INT; echo ready; while :; do sleep 0.05; done"]);
    child.stdout?.on("data", (data: Buffer) => data.includes("ready") && child.kill("SIGINT"));
    const ended = collect(child);
    await waitFor("the signal", { timeoutMs: 10_000 }, () => api.signals.length === 1);
    child.kill("SIGINT");
    expect((await ended).code).toBe(130);
  });

  test("[CLI-24] TERM goes to the command and ends with its code", async () => {
    const child = home.start(["exec", "-s", "dev", "--", "sh", "-c", "echo ready; exec sleep 60"]);
    child.stdout?.on("data", (data: Buffer) => data.includes("ready") && child.kill("SIGTERM"));
    expect((await collect(child)).code).toBe(143);
    expect(api.signals).toEqual(["TERM"]);
  });

  test("[CLI-22] a reader that stops for a while holds the command back", async () => {
    const child = home.start(["exec", "-s", "dev", "--no-stdin", "--", "sh", "-c", "yes | head -c 40000000"]);
    await delay(1500); // nobody reads: the command must stand still, and our process must not grow
    const status = await import("node:fs/promises").then((fs) => fs.readFile(`/proc/${child.pid}/status`, "utf8"));
    expect(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1])).toBeLessThan(140_000);
    let bytes = 0;
    child.stdout?.on("data", (data: Buffer) => (bytes += data.length));
    await once(child, "close");
    expect(bytes).toBe(40_000_000);
  });

  test("[CLI-26] a connection that is lost ends with 1 and says so", async () => {
    api.cutAfterOutput = true;
    const result = await home.run(["exec", "-s", "dev", "--", "sh", "-c", "echo first; sleep 60"]);
    expect(result).toMatchObject({ code: 1, out: "first\n" });
    expect(result.err).toMatch(/^error: The connection .*\nThe command may run on; `sprite attach -s dev 1` goes back to it\.\n$/);
  });

  test("[CLI-27] a temporary refusal is repeated, a final one is not", async () => {
    const busy = { status: 503, body: '{"error":"not_ready","message":"the server is starting"}' };
    api.refusals = [busy, busy];
    expect((await home.run(["exec", "-s", "dev", "true"])).code).toBe(0);
    expect(api.requests.filter((request) => request.method === "UPGRADE")).toHaveLength(3);
    api.refusals = [{ status: 409, body: '{"error":"sprite_failed","message":"the disk is gone"}' }];
    expect((await home.run(["exec", "-s", "dev", "true"])).err).toContain("error: The disk is gone.");
  });

  test("[CLI-29] --tty without a terminal of our own: variables, size and Ctrl-D at the end of input", async () => {
    api.program = (session) => session.send(`size ${session.size.cols}x${session.size.rows}\r\n`);
    api.onInput = (session, data) => data.at(-1) === 4 && session.exit(3);
    const result = await home.run(["exec", "-s", "dev", "--tty", "--env", "A=1", "bash"], {
      input: "ls\n",
      env: { TERM: "xterm-test", LANG: "C.UTF-8", COLORTERM: "truecolor" },
    });
    expect(result).toMatchObject({ code: 3, out: "size 80x24\r\n" });
    expect(api.terminals[0]?.input.toString()).toBe("ls\n\u0004");
    expect(api.terminals[0]?.env).toEqual(["TERM=xterm-test", "COLORTERM=truecolor", "LANG=C.UTF-8", "A=1"]);
  });

  test("[HTTP-9] a server without frames is taken as it is; --verbose says so", async () => {
    const result = await home.run(["exec", "-s", "dev", "--http-post", "--verbose", "--", "sh", "-c", "echo out; exit 2"]);
    expect(result).toMatchObject({ code: 2, out: "out\n", err: "sprite: the server answers in the official framing, without lengths\n" });
  });

  test("[CLI-28] frames over HTTP are told apart although they arrive as one", async () => {
    const result = await home.run([
      "exec",
      "-s",
      "dev",
      "--http-post",
      "--",
      "sh",
      "-c",
      "for i in 1 2 3 4 5 6 7 8; do echo out$i; echo err$i >&2; done; exit 9",
    ]);
    expect(result.code).toBe(9);
    expect(result.out).toBe([1, 2, 3, 4, 5, 6, 7, 8].map((number) => `out${number}\n`).join(""));
    expect(result.err).toBe([1, 2, 3, 4, 5, 6, 7, 8].map((number) => `err${number}\n`).join(""));
  });
});
