/** The `sprite` command over a network that cuts its connections, against the whole daemon with simulated machines. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer, request as ask } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { waitFor } from "@sprited/base";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { CuttingProxy, seededNumbers } from "../kit/cutting-proxy.ts";
import { openSimulated, type SimulatedTarget } from "../kit/simulated.ts";
import { CliHome, type CliResult, collect } from "./cli-run.ts";
import { PLAIN_MODES, TmuxPane } from "./cli-tmux.ts";

const WAIT = { timeoutMs: 30_000, everyMs: 20 };
const LOST = "sprite: connection to box lost; trying again for 5 min, Ctrl-C leaves";

let daemon: SimulatedTarget;
let proxy: CuttingProxy;
let home: CliHome;

beforeAll(async () => {
  daemon = await openSimulated();
  const direct = await CliHome.make({ SPRITES_API_URL: daemon.baseUrl, SPRITE_TOKEN: daemon.token });
  expect(await direct.run(["create", "box", "--skip-console"])).toMatchObject({ code: 0 });
  await direct.remove();
});
afterAll(() => daemon[Symbol.asyncDispose]());
beforeEach(async () => await useProxy());
afterEach(async () => {
  await home.remove();
  await proxy[Symbol.asyncDispose]();
});

async function useProxy(bytes?: () => number): Promise<void> {
  proxy = await CuttingProxy.open(daemon.baseUrl, bytes ? { bytes } : {});
  home = await CliHome.make({ SPRITES_API_URL: proxy.url, SPRITE_TOKEN: daemon.token });
}

/** Runs `exec` over a proxy that cuts at random places from then on. */
async function execCut(bytes: () => number, flags: readonly string[], args: readonly string[], input?: Uint8Array): Promise<CliResult> {
  await home.remove();
  await proxy[Symbol.asyncDispose]();
  await useProxy(bytes);
  return await home.run(["exec", "-s", "box", "--no-port-forward", ...flags, "--", ...args], input === undefined ? {} : { input });
}

const sha256 = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex");

/** Both ways to run a command, which must not differ in what a lost connection does. */
describe.each([
  ["WebSocket", [] as string[]],
  ["HTTP", ["--http-post"]],
])("exec over %s on a network that cuts", (way, flags) => {
  test("[CLI-40] output arrives whole and in order at any cuts, and so does the exit code", async () => {
    const result = await execCut(seededNumbers(7, 2_000, 200_000), flags, ["sh", "-c", "seq 1 200000; seq 1 20000 >&2; exit 7"]);
    // Whatever the place: without our lines the command's bytes are all there.
    const ours = result.err.match(/sprite: [^\n]*/g) ?? [];
    expect(result.code).toBe(7);
    expect(sha256(result.stdout)).toBe(sha256(Buffer.from(Array.from({ length: 200_000 }, (_, index) => `${index + 1}\n`).join(""))));
    expect(result.err.replaceAll(/sprite: [^\n]*\n/g, "")).toBe(Array.from({ length: 20_000 }, (_, index) => `${index + 1}\n`).join(""));
    expect(proxy.cuts).toBeGreaterThan(5);
    expect(ours.filter((_, index) => index % 2 === 0).every((line) => line === LOST)).toBe(true);
    expect(ours.filter((_, index) => index % 2 === 1).every((line) => /^sprite: connected to box again after \d+ s$/.test(line))).toBe(
      true,
    );
    expect(ours.length % 2).toBe(0);
  }, 60_000);

  test("[CLI-40] input arrives whole and in order at any cuts, to its end", async () => {
    const input = Buffer.from(Array.from({ length: 3_000_000 }, (_, index) => (index * 2_654_435_761) >>> 24));
    const result = await execCut(seededNumbers(11, 20_000, 900_000), flags, ["sh", "-c", "sha256sum; exit 3"], input);
    expect([result.code, result.out]).toEqual([3, `${sha256(input)}  -\n`]);
    expect(proxy.cuts).toBeGreaterThan(3);
  }, 60_000);

  test("[CLI-40] megabytes go both ways at any cuts, through a command that runs once", async () => {
    const data = Buffer.from(Array.from({ length: 4_000_000 }, (_, index) => (index * 2_246_822_519) >>> 24));
    const result = await execCut(seededNumbers(13, 20_000, 700_000), flags, ["sh", "-c", `echo x >> ran-both-${way}; cat; exit 9`], data);
    expect([result.code, sha256(result.stdout)]).toEqual([9, sha256(data)]);
    expect(await readFile(path.join(daemon.layout.root, "user", `ran-both-${way}`), "utf8")).toBe("x\n");
    expect(proxy.cuts).toBeGreaterThan(10);
  }, 60_000);

  test("[CLI-40] a start whose answer is cut off again and again runs the command once, with all of its input and output", async () => {
    proxy.answersToCut = 3;
    const script = `echo ran >> ran-once-${way}; wc -c; seq 1 20000; exit 5`;
    const result = await home.run(["exec", "-s", "box", "--no-port-forward", ...flags, "--", "sh", "-c", script], {
      input: "typed at once",
    });
    const numbers = Array.from({ length: 20_000 }, (_, index) => `${index + 1}\n`).join("");
    expect([result.code, result.out]).toEqual([5, `13\n${numbers}`]);
    expect(await readFile(path.join(daemon.layout.root, "user", `ran-once-${way}`), "utf8")).toBe("ran\n");
    expect([proxy.answersToCut, proxy.cuts]).toEqual([0, 3]);
  }, 60_000);

  test("[CLI-41] a command lives through a loss that is longer than the server's own patience", async () => {
    const child = home.start(["exec", "-s", "box", ...flags, "--", "sh", "-c", "echo begin; sleep 14; echo end"]);
    const result = collect(child);
    await waitFor("the output", WAIT, () => proxy.connections > 0 && daemonHas("begin"));
    proxy.isDown = true;
    proxy.cut();
    await new Promise((resolve) => setTimeout(resolve, 11_500));
    proxy.isDown = false;
    expect(await result).toMatchObject({ code: 0, out: "begin\nend\n" });
  }, 60_000);

  test("[CLI-40] restarts of the daemon are lost connections like others", async () => {
    const script = "for i in $(seq 1 60); do echo $i; echo e$i >&2; sleep 0.1; done; sha256sum; exit 8";
    const child = home.start(["exec", "-s", "box", ...flags, "--", "sh", "-c", script]);
    const input = Buffer.alloc(700_000, "input ");
    child.stdin?.end(input);
    const result = collect(child);
    for (let round = 0; round < 3; round++) {
      await new Promise((resolve) => setTimeout(resolve, 1_200));
      proxy.cut(); // a daemon that is killed says nothing to anybody
      await daemon.restart();
    }
    const { code, out, err } = await result;
    const numbers = Array.from({ length: 60 }, (_, index) => index + 1);
    expect([code, out]).toEqual([8, `${numbers.join("\n")}\n${sha256(input)}  -\n`]);
    expect(err.replaceAll(/sprite: [^\n]*\n/g, "")).toBe(numbers.map((number) => `e${number}\n`).join(""));
    expect(err.match(/connected to box again/g)?.length).toBeGreaterThanOrEqual(3);
  }, 60_000);

  test("[CLI-42] Ctrl-C while the connection is lost leaves and says how to go back; attach gives all", async () => {
    const child = home.start(["exec", "-s", "box", ...flags, "--", "sh", "-c", "echo one; sleep 2; echo two; exit 4"]);
    const errors: string[] = [];
    child.stderr?.on("data", (data: Buffer) => errors.push(data.toString()));
    const result = collect(child);
    await new Promise((resolve) => child.stdout?.once("data", resolve));
    proxy.isDown = true;
    proxy.cut();
    await waitFor("the line", WAIT, () => errors.join("").includes(LOST));
    child.kill("SIGINT");
    const { code, out, err } = await result;
    const id = /sprite attach -s box (\d+)\n$/.exec(err)?.[1] ?? "";
    expect([code, out]).toEqual([130, "one\n"]);
    expect(err).toBe(`${LOST}\nsprite: left box while the connection was lost; the command may run on: sprite attach -s box ${id}\n`);
    proxy.isDown = false;
    expect(await home.run(["attach", "-s", "box", id])).toMatchObject({ code: 4, out: "one\ntwo\n", err: "" });
  }, 60_000);

  test("[CLI-43] it gives up when the time is up", async () => {
    const child = home.start(["exec", "-s", "box", ...flags, "--reconnect-for", "1s", "--", "sh", "-c", "echo one; sleep 30"]);
    const result = collect(child);
    await new Promise((resolve) => child.stdout?.once("data", resolve));
    proxy.isDown = true;
    proxy.cut();
    const { code, err } = await result;
    expect(code).toBe(1);
    expect(err).toMatch(/\nerror: No connection for 1 s.*\nThe command may run on; `sprite attach -s box \d+` goes back to it\.\n$/);
  }, 60_000);

  test.each([
    ["0", 1],
    ["2s", 2],
  ])(
    "[CLI-26] with --reconnect-for %s a start that is never answered runs once at most, and says so",
    async (patience, connections) => {
      proxy.answersToCut = Infinity;
      const marker = `ran-${way}-${patience}`;
      const args = [
        "exec",
        "-s",
        "box",
        "--no-port-forward",
        ...flags,
        "--reconnect-for",
        patience,
        "--",
        "sh",
        "-c",
        `echo x >> ${marker}`,
      ];
      const result = await home.run(args);
      expect(result.code).toBe(1);
      expect(proxy.connections).toBeGreaterThanOrEqual(connections);
      expect(result.err).toMatch(/The command may have been started; it is not run again by itself\.\n$/);
      expect(await readFile(path.join(daemon.layout.root, "user", marker), "utf8")).toBe("x\n");
    },
    60_000,
  );

  test("[CLI-24] the first Ctrl-C goes to the command, whose exit code counts", async () => {
    const script = "trap 'echo got it; exit 5' INT; echo ready; while :; do sleep 0.1; done";
    const child = home.start(["exec", "-s", "box", ...flags, "--", "sh", "-c", script]);
    child.stdout?.once("data", () => child.kill("SIGINT"));
    expect(await collect(child)).toMatchObject({ code: 5, out: "ready\ngot it\n", err: "" });
  }, 60_000);

  test("[CLI-41] a second Ctrl-C ends the command too", async () => {
    const marker = `${home.dir}/ended`;
    const script = `trap 'echo term > ${marker}; exit' TERM; trap 'echo int' INT; echo ready; while :; do sleep 0.1; done`;
    const child = home.start(["exec", "-s", "box", ...flags, "--", "sh", "-c", script]);
    const result = collect(child);
    for (const line of ["ready", "int"]) {
      await new Promise<void>((resolve) => child.stdout?.on("data", (data: Buffer) => data.includes(line) && resolve()));
      child.kill("SIGINT");
    }
    expect((await result).code).toBe(130);
    const { readFile } = await import("node:fs/promises");
    await waitFor("the command's end", WAIT, async () => (await readFile(marker, "utf8").catch(() => "")) === "term\n");
  }, 60_000);
});

describe("exec over a network that cuts", () => {
  test("[CLI-26] from a server that knows no keys a start whose answer is cut off is not asked for again", async () => {
    const asked: string[] = [];
    const server = createServer((_, answer) => void answer.writeHead(404, { "content-type": "text/plain" }).end("no such session"));
    server.on("upgrade", (request, socket) => {
      asked.push(new URL(request.url ?? "", "http://h").pathname);
      if (asked.length === 1) socket.destroy();
      else socket.end("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const { port } = server.address() as AddressInfo;
      const env = { SPRITES_API_URL: `http://127.0.0.1:${port}` };
      const result = await home.run(["exec", "-s", "box", "--no-port-forward", "--", "true"], { env });
      expect(result.code).toBe(1);
      expect(result.err).toContain("The command may have been started; it is not run again by itself.");
      expect(asked).toEqual(["/v1/sprites/box/exec", "/v1/sprites/box/exec/start"]);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  }, 60_000);

  test("[HTTP-12] --http-post goes on through a proxy that passes on whole requests only", async () => {
    const asked: string[] = [];
    const server = createServer((request, answer) => {
      const url = new URL(request.url ?? "", daemon.baseUrl);
      asked.push(`${url.pathname.split("/").length} ${url.searchParams.has("input_offset")}`);
      const body: Buffer[] = [];
      request.on("data", (data: Buffer) => body.push(data));
      request.on("error", () => {}); // given up by the client
      request.on("end", () => {
        const { "transfer-encoding": _, ...headers } = request.headers;
        const whole = Buffer.concat(body);
        const forward = ask(url, { method: "POST", headers: { ...headers, "content-length": whole.length } }, (from) => {
          let left = asked.length === 1 ? 100_000 : Infinity;
          answer.writeHead(from.statusCode ?? 502, { "content-type": from.headers["content-type"] ?? "" });
          from.on("data", (data: Buffer) => {
            if ((left -= data.length) > 0) return void answer.write(data);
            answer.destroy();
            forward.destroy();
          });
          from.on("end", () => answer.end());
          from.on("error", () => {}); // cut above
        });
        forward.on("error", () => {}); // as above
        forward.end(whole);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const env = { SPRITES_API_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
      const input = Buffer.alloc(300_000, "all of the input ");
      const result = await home.run(["exec", "-s", "box", "--http-post", "--", "sh", "-c", "cat; exit 6"], {
        env,
        input,
        timeoutMs: 50_000,
      });
      expect([result.code, sha256(result.stdout)]).toEqual([6, sha256(input)]);
      // The first waits for the server's word and has none, the next one says where its body begins.
      expect(asked).toEqual(["5 true", "6 false", "6 true"]);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  }, 60_000);

  test("[HTTP-13] --http-post says so when its input is too much to be sent again to a server that never answered", async () => {
    let requests = 0;
    const server = createServer((request) => {
      requests += 1;
      let bytes = 0;
      request.on("data", (data: Buffer) => (bytes += data.length) >= 20_000_000 && request.socket.destroy());
      request.on("error", () => {}); // destroyed above
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const { port } = server.address() as AddressInfo;
      const env = { SPRITES_API_URL: `http://127.0.0.1:${port}` };
      const result = await home.run(["exec", "-s", "box", "--http-post", "--", "cat"], { env, input: Buffer.alloc(24_000_000) });
      expect([result.code, requests]).toEqual([1, 1]);
      expect(result.err).toMatch(
        /^error: The connection .*\nThe command may have been started; the input already sent is too much to be sent again\.\n$/,
      );
    } finally {
      server.closeAllConnections();
      server.close();
    }
  }, 60_000);

  test("[CLI-44] attach shows a command from its beginning, passes input on; Ctrl-\\ leaves it running", async () => {
    const child = home.start(["exec", "-s", "box", "--", "sh", "-c", "echo one; read line; echo got $line; exit 6"]);
    await new Promise((resolve) => child.stdout?.once("data", resolve));
    const id = daemonSession()?.id ?? "";
    const watcher = home.start(["attach", "-s", "box", id]);
    await new Promise((resolve) => watcher.stdout?.once("data", resolve));
    watcher.kill("SIGQUIT");
    expect(await collect(watcher)).toMatchObject({ code: 0 });
    const other = home.start(["attach", "-s", "box", id]);
    const [first, second] = [collect(child), collect(other)];
    other.stdin?.write("words\n");
    expect(await second).toMatchObject({ code: 6, out: "one\ngot words\n", err: "" });
    expect((await first).code).toBe(6);
    expect(await home.run(["attach", "-s", "box", id])).toMatchObject({ code: 6, out: "one\ngot words\n", err: "" });
    expect((await home.run(["attach", "-s", "box", "424242"])).err).toMatch(/^error: /);
  }, 60_000);
});

describe("a console over a network that cuts", () => {
  let pane: TmuxPane;
  beforeEach(() => {
    pane = new TmuxPane(home);
  });
  afterEach(() => pane.close());

  /** Opens `sh` in a terminal and waits for its prompt. */
  async function openShell(): Promise<void> {
    await pane.start("exec --tty -s box --env PS1=ready,PS2=more -- sh", ["line one"]);
    await pane.waitForScreen("ready");
  }

  async function type(text: string): Promise<void> {
    await pane.keys("-l", text);
    await pane.keys("Enter");
  }

  test("[CLI-45] a short loss shows nothing", async () => {
    await openShell();
    proxy.cut();
    await type("echo $((40+2))");
    await pane.waitForScreen("42");
    proxy.cut();
    await type("exit 5");
    expect(await pane.ended()).toEqual({ code: 5, settingsKept: true });
    expect((await pane.screen()).join("\n")).not.toContain("lost");
    expect(await pane.modes()).toBe(PLAIN_MODES);
  }, 60_000);

  test("[CLI-45][CLI-46][CLI-47] a long loss says so, keeps what is typed and ends with the screen drawn anew", async () => {
    await openShell();
    await type("echo $((40+2))");
    await pane.waitForScreen("42");
    proxy.isDown = true;
    proxy.cut();
    await pane.waitForScreen("sprite: connection to box lost");
    await pane.keys("-l", "stty size; echo $((50+3))");
    await pane.keys("Enter");
    await pane.resize(90, 30);
    proxy.isDown = false;
    await pane.waitForScreen("53");
    await pane.waitForScreen("30 90");
    const screen = (await pane.screen()).join("\n");
    expect(screen).toContain("42");
    expect(screen).not.toContain("sprite: connection");
    const raw = await pane.raw();
    expect(raw.match(/sprite: connection to box lost/g)).toHaveLength(1);
    expect(raw.match(/sprite: connected to box again after/g)).toHaveLength(1);
    await type("exit 6");
    expect(await pane.ended()).toEqual({ code: 6, settingsKept: true });
  }, 60_000);

  test("[CLI-45] a full-screen program is as it was after a long loss", async () => {
    await openShell();
    await type("printf '\\033[?1049h\\033[2J\\033[5;10HFULL\\033[?1000h\\033[?25l'; read x; printf '\\033[?1000l\\033[?25h\\033[?1049l'");
    await pane.waitForScreen("FULL");
    const [before, modes] = [await pane.screen(), await pane.modes()];
    proxy.isDown = true;
    proxy.cut();
    await pane.waitForScreen("sprite: connection to box lost");
    proxy.isDown = false;
    await waitFor("the picture", WAIT, async () => JSON.stringify(await pane.screen()) === JSON.stringify(before));
    expect(await pane.modes()).toBe(modes);
    await pane.keys("Enter");
    await waitFor("the main screen", WAIT, async () => (await pane.modes()).startsWith("alternate_on=0"));
    await type("exit 0");
    expect(await pane.ended()).toEqual({ code: 0, settingsKept: true });
    expect(await pane.modes()).toBe(PLAIN_MODES);
  }, 60_000);

  test("[CLI-46] Ctrl-C leaves while the connection is lost", async () => {
    await openShell();
    proxy.isDown = true;
    proxy.cut();
    await pane.waitForScreen("sprite: connection to box lost");
    await pane.keys("C-c");
    expect(await pane.ended()).toEqual({ code: 130, settingsKept: true });
    expect((await pane.screen()).join("\n")).toMatch(/left box while the connection was lost; reattach with sprite attach -s box \d+/);
    expect(await pane.modes()).toBe(PLAIN_MODES);
  }, 60_000);
});

/** True when the newest session of the sprite has printed `text`. */
function daemonHas(text: string): boolean {
  return (daemonSession()?.outputOffsets.stdout ?? 0) >= text.length;
}

/** The newest session of the sprite. */
function daemonSession(): ReturnType<SimulatedTarget["features"]["exec"]["list"]>[number] | undefined {
  return daemon.features.exec.list(daemon.features.organizations.list()[0]?.id ?? "", "box").at(-1);
}
