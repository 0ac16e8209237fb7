/** Sessions over a real link to a real agent, without a VM: the numbered log, input, signals, ends. */
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import { GUEST_LIMITS } from "@sprited/protocol/guest";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { GuestLink } from "@sprited/daemon";
import { type BareGuest, emptyRan, nextId, readAll, runCommand, type SessionStream, startBareGuest } from "../kit/bare-guest.ts";

let guest: BareGuest;
let link: GuestLink;

beforeAll(async () => {
  guest = await startBareGuest();
  link = await guest.link();
});
afterAll(async () => {
  await link[Symbol.asyncDispose]();
  await guest[Symbol.asyncDispose]();
});

const sh = (script: string): string[] => ["sh", "-c", script];
const begin = (argv: string[], changes: object = {}): Promise<SessionStream> =>
  link.startSession(nextId(), { argv, env: {}, dir: null, tty: null, stdin: false, ...changes });

describe("commands", () => {
  test("[SESS-7] runs with the variables of sprite and command, in the directory asked for", async () => {
    const ran = await runCommand(link, sh("echo $SPRITE_VARIABLE $MINE; pwd; echo err >&2; exit 42"), {
      env: { MINE: "and mine" },
      dir: "/usr",
    });
    expect(ran.stdout.toString()).toBe("from the sprite and mine\n/usr\n");
    expect(ran.stderr.toString()).toBe("err\n");
    expect(ran.exit).toEqual({ code: 42, signal: null });
  });

  test("[SESS-7] not found, not executable, no directory: 127, 126, 126 and one line", async () => {
    const missing = await runCommand(link, ["no-such-command"]);
    expect([missing.exit, missing.stderr.toString()]).toEqual([
      { code: 127, signal: null },
      "sprite: no-such-command: command not found\n",
    ]);
    const plain = await runCommand(link, ["/etc/passwd"]);
    expect([plain.exit?.code, plain.stderr.toString()]).toEqual([126, "sprite: /etc/passwd: permission denied\n"]);
    const nowhere = await runCommand(link, ["true"], { dir: "/no/such/place" });
    expect([nowhere.exit?.code, nowhere.stderr.toString()]).toEqual([126, "sprite: /no/such/place: no such directory\n"]);
  });

  test("[SESS-7] arguments and variables arrive byte for byte, odd names and 100 KB included", async () => {
    const odd = { "a.b-c": "1 2", IFS: ",", SHLVL: "9", empty: "", ünï: "✓" };
    const ran = await runCommand(link, ["env"], { env: odd });
    const lines = ran.stdout.toString().split("\n");
    expect(lines).toEqual(expect.arrayContaining(["a.b-c=1 2", "IFS=,", "SHLVL=9", "empty=", "ünï=✓"]));
    const words = Array.from({ length: 1000 }, (_, index) => `${index} $HOME "quoted" * \n é ${"x".repeat(90)}`);
    const echoed = await runCommand(link, ["printf", "%s\\0", ...words]);
    expect(echoed.stdout.toString().split("\0").slice(0, -1)).toEqual(words);
  });

  test("[SESS-7] what Linux cannot pass on is answered with a reason", async () => {
    const ran = await runCommand(link, ["echo", "x".repeat(200_000)]);
    expect(ran.failed).toMatchObject({ code: "invalid", message: expect.stringContaining("128 KiB") });
  });

  test("[SESS-7] an end by signal is told as such", async () => {
    expect((await runCommand(link, sh("kill -TERM $$"))).exit).toEqual({ code: null, signal: "TERM" });
  });

  test("standard output can be opened by its path", async () => {
    const ran = await runCommand(link, sh("echo out >/dev/stdout; echo err >/dev/stderr"));
    expect([ran.stdout.toString(), ran.stderr.toString()]).toEqual(["out\n", "err\n"]);
  });
});

describe("output", () => {
  test("[SESS-2] [SESS-6] every byte of a large output arrives, then the exit", async () => {
    const ran = await runCommand(link, sh("head -c 20000000 /dev/zero | tr '\\0' x; echo end >&2"));
    expect(ran.stdout.length).toBe(20_000_000);
    expect(ran.stdout.every((byte) => byte === 120)).toBe(true);
    expect(ran.stderr.toString()).toBe("end\n");
    expect(ran.exit?.code).toBe(0);
  });

  test("[SESS-4] [LINK-3] leaving and coming back at any point gives identical bytes", async () => {
    const script = "i=0; while [ $i -lt 400 ]; do echo line $i of the output; echo error $i >&2; i=$((i+1)); done; seq 1 60000";
    const whole = await runCommand(link, sh(script));
    const digest = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(120_000), fc.boolean(), fc.boolean()), { maxLength: 6 }), async (leaves) => {
        const id = nextId();
        const ran = emptyRan();
        let stream = await link.startSession(id, { argv: sh(script), env: {}, dir: null, tty: null, stdin: false });
        for (const [bytes, acknowledges, drops] of leaves) {
          const goal = ran.stdout.length + bytes;
          for await (const event of stream.events) {
            if (event.type === "exit") ran.exit = event.exit;
            if (event.type !== "output") continue;
            ran[event.stream] = Buffer.concat([ran[event.stream], event.data]);
            if (acknowledges) stream.acknowledge({ stdout: ran.stdout.length, stderr: ran.stderr.length });
            if (ran.stdout.length >= goal) break;
          }
          if (ran.exit) break;
          // Without acknowledgement the same bytes may be asked for again.
          if (drops && !acknowledges && leaves.every(([, each]) => !each)) {
            ran.stdout = ran.stdout.subarray(0, Math.floor(ran.stdout.length / 2));
            ran.stderr = Buffer.alloc(0);
          }
          stream = await link.attachSession(id, { stdout: ran.stdout.length, stderr: ran.stderr.length });
        }
        if (!ran.exit) await readAll(stream, ran);
        expect(digest(ran.stdout)).toBe(digest(whole.stdout));
        expect(digest(ran.stderr)).toBe(digest(whole.stderr));
        expect(ran.exit?.code).toBe(0);
        await link.deleteSession(id);
      }),
      { numRuns: 15 },
    );
  });

  test("[SESS-3] an unacknowledged command is held back and loses nothing", async () => {
    const id = nextId();
    const stream = await link.startSession(id, { argv: sh("head -c 30000000 /dev/zero"), env: {}, dir: null, tty: null, stdin: false });
    let bytes = 0;
    const reading = (async () => {
      for await (const event of stream.events) if (event.type === "output") bytes += event.data.length;
    })();
    reading.catch(() => {});
    await expect.poll(() => bytes).toBeGreaterThanOrEqual(GUEST_LIMITS.retainBytesMax);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const held = (await link.listSessions()).find((session) => session.id === id)!;
    // One read beyond the limit at most, of each size the transport reads.
    expect(held.stdout_bytes).toBeLessThanOrEqual(GUEST_LIMITS.retainBytesMax + 64 * 1024);
    expect(held.exit).toBeNull();
    stream.close();
    const rest = await readAll(await link.attachSession(id, { stdout: 0, stderr: 0 }));
    expect(rest.stdout.length).toBe(30_000_000);
  });

  test("[SESS-6] output held open by others is waited for a second, then the session ends", async () => {
    const startedMs = performance.now();
    const ran = await runCommand(link, sh("(sleep 30; echo late) & echo now; exit 3"));
    expect(ran.stdout.toString()).toBe("now\n");
    expect(ran.exit?.code).toBe(3);
    expect(performance.now() - startedMs).toBeGreaterThan(900);
    expect(performance.now() - startedMs).toBeLessThan(10_000);
  });

  test("[SESS-6] output of the command itself is never cut by that second", async () => {
    const id = nextId();
    await link.startSession(id, { argv: sh("head -c 1300000 /dev/zero"), env: {}, dir: null, tty: null, stdin: false });
    await new Promise((resolve) => setTimeout(resolve, 2500));
    const ran = await readAll(await link.attachSession(id, { stdout: 0, stderr: 0 }));
    expect(ran.stdout.length).toBe(1_300_000);
    expect(ran.exit?.code).toBe(0);
  });

  test("[SESS-4] a second reader ends the first", async () => {
    const id = nextId();
    const first = await link.startSession(id, { argv: sh("echo one; sleep 20"), env: {}, dir: null, tty: null, stdin: false });
    const events = first.events[Symbol.asyncIterator]();
    // One that attaches while the command is still being started comes before the first reader.
    for (let step = await events.next(); step.value?.type !== "output"; step = await events.next()) expect(step.done).not.toBe(true);
    const firstEnd = (async () => {
      while (!(await events.next()).done);
      return "ended";
    })().catch((error: { code: string }) => error.code);
    const second = await link.attachSession(id, { stdout: 0, stderr: 0 });
    expect(await firstEnd).toBe("guest_link_lost");
    second.signal("TERM");
    expect((await readAll(second)).exit).toEqual({ code: null, signal: "TERM" });
  });

  test("[SESS-4] offsets that are gone are refused", async () => {
    const id = nextId();
    await readAll(await link.startSession(id, { argv: sh("echo gone"), env: {}, dir: null, tty: null, stdin: false }));
    const ran = await readAll(await link.attachSession(id, { stdout: 100, stderr: 0 }));
    expect(ran.failed?.code).toBe("invalid");
  });
});

describe("input", () => {
  test("[FRAME-2] [SESS-5] [SESS-10] more input than the window goes through, once and in order", async () => {
    const stream = await begin(["sha256sum"], { stdin: true });
    const data = Buffer.alloc(5 * GUEST_LIMITS.inputWindowBytes + 12_345, "0123456789abcdef");
    const reading = readAll(stream);
    await stream.sendInput(0, data.subarray(0, 3_000_000));
    // What a client that came back sends again.
    await stream.sendInput(2_999_000, data.subarray(2_999_000));
    stream.endInput(data.length);
    const ran = await reading;
    expect(ran.stdout.toString()).toBe(`${createHash("sha256").update(data).digest("hex")}  -\n`);
  });

  test("[SESS-5] a command that reads nothing holds nobody up", async () => {
    const stream = await begin(sh("exec <&-; echo closed; sleep 0.3"), { stdin: true });
    const reading = readAll(stream);
    await stream.sendInput(0, Buffer.alloc(3 * GUEST_LIMITS.inputWindowBytes)).catch(() => {});
    expect((await reading).exit?.code).toBe(0);
  });

  test("[SESS-10] input and output at once do not wait for each other", async () => {
    const stream = await begin(["cat"], { stdin: true });
    const data = Buffer.alloc(8_000_000, "all of it comes back\n");
    const reading = readAll(stream);
    await stream.sendInput(0, data);
    stream.endInput(data.length);
    expect((await reading).stdout.equals(data)).toBe(true);
  });
});

describe("terminals", () => {
  test("a command has a terminal of its own with its size, and follows changes", async () => {
    const stream = await begin(sh("tty; stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.1; done"), {
      tty: { cols: 100, rows: 30 },
      stdin: true,
    });
    const ran = emptyRan();
    for await (const event of stream.events) {
      if (event.type === "output") {
        ran.stdout = Buffer.concat([ran.stdout, event.data]);
        if (event.data.toString().includes("ready")) stream.resize({ cols: 120, rows: 40 });
      }
      if (event.type === "exit") ran.exit = event.exit;
    }
    const lines = ran.stdout.toString().split("\r\n");
    expect(lines[0]).toMatch(/^\/dev\/pts\/[0-9]+$/);
    expect(lines.slice(1, 4)).toEqual(["30 100", "ready", "40 120"]);
    expect(ran.exit?.code).toBe(5);
    expect((await link.listSessions()).filter(({ size }) => size).map(({ tty, size }) => ({ tty, size }))).toContainEqual({
      tty: true,
      size: { cols: 120, rows: 40 },
    });
  });

  test("[SESS-8] INT goes to the foreground, typed or sent", async () => {
    const stream = await begin(
      sh("trap 'echo shell' INT; sh -c 'trap \"echo inner; exit 7\" INT; echo ready; while :; do sleep 0.1; done'; exit $?"),
      { tty: { cols: 80, rows: 24 }, stdin: true },
    );
    let text = "";
    let exit;
    for await (const event of stream.events) {
      if (event.type === "output") {
        text += Buffer.from(event.data).toString();
        if (Buffer.from(event.data).toString().includes("ready")) stream.signal("INT");
      }
      if (event.type === "exit") exit = event.exit;
    }
    expect(text).toContain("inner");
    expect(exit).toEqual({ code: 7, signal: null });
  });

  test("[SESS-6] a program that closes its terminal before it ends is not hung up", async () => {
    for (let round = 0; round < 10; round += 1) {
      const ran = await runCommand(link, sh("exec 0<&- 1>&- 2>&-; sleep 0.05; exit 4"), { tty: { cols: 80, rows: 24 }, stdin: true });
      expect(ran.exit).toEqual({ code: 4, signal: null });
    }
  });

  test("[LINK-9] much input and much output at once do not wait for each other", { timeout: 120_000 }, async () => {
    const input = randomBytes(6_000_000);
    const wanted = createHash("sha256").update(input).digest("hex");
    const cats = Array.from({ length: 24 }, async () => {
      const stream = await begin(["cat"], { stdin: true });
      const hash = createHash("sha256");
      let stdout = 0;
      const sending = (async () => {
        for (let at = 0; at < input.length; at += 1_000_000) await stream.sendInput(at, input.subarray(at, at + 1_000_000));
        stream.endInput(input.length);
      })();
      for await (const event of stream.events) {
        if (event.type !== "output") continue;
        hash.update(event.data);
        stdout += event.data.length;
        stream.acknowledge({ stdout, stderr: 0 });
      }
      await sending;
      return hash.digest("hex");
    });
    expect(new Set(await Promise.all(cats))).toEqual(new Set([wanted]));
  });

  test("[SESS-5] the end of input reaches a program that reads lines", async () => {
    const stream = await begin(["cat"], { tty: { cols: 80, rows: 24 }, stdin: true });
    const reading = readAll(stream);
    await stream.sendInput(0, Buffer.from("typed\n"));
    stream.endInput(6);
    const ran = await reading;
    expect(ran.stdout.toString()).toBe("typed\r\ntyped\r\n");
    expect(ran.exit?.code).toBe(0);
  });
});

describe("ends", () => {
  test("[SESS-8] KILL takes every process of the session", async () => {
    const id = nextId();
    const stream = await link.startSession(id, {
      argv: sh("sleep 1000 & sleep 1000 & trap '' TERM; echo $!; wait"),
      env: {},
      dir: null,
      tty: null,
      stdin: false,
    });
    let child = 0;
    let exit;
    for await (const event of stream.events) {
      if (event.type === "output") {
        child = Number(Buffer.from(event.data).toString());
        stream.signal("TERM");
        stream.signal("KILL");
      }
      if (event.type === "exit") exit = event.exit;
    }
    expect(exit).toEqual({ code: null, signal: "KILL" });
    await expect.poll(() => isAlive(child)).toBe(false);
  });

  test("[SESS-1] an id is used once", async () => {
    const id = nextId();
    const start = { argv: ["true"], env: {}, dir: null, tty: null, stdin: false };
    await readAll(await link.startSession(id, start));
    await expect(link.startSession(id, start)).rejects.toMatchObject({ code: "guest_session_exists" });
    await link.deleteSession(id);
    expect((await readAll(await link.startSession(id, start))).exit?.code).toBe(0);
  });

  test("[LINK-4] an unknown session is answered as such, and deleting it is fine", async () => {
    await expect(link.attachSession("999999", { stdout: 0, stderr: 0 })).rejects.toMatchObject({ code: "guest_session_unknown" });
    await link.deleteSession("999999");
  });

  test("deleting a running session kills it", async () => {
    const id = nextId();
    const stream = await link.startSession(id, { argv: sh("echo $$; exec sleep 1000"), env: {}, dir: null, tty: null, stdin: false });
    let pid = 0;
    for await (const event of stream.events) {
      if (event.type !== "output") continue;
      pid = Number(Buffer.from(event.data).toString());
      break;
    }
    await link.deleteSession(id);
    await expect.poll(() => isAlive(pid)).toBe(false);
    expect((await link.listSessions()).some((session) => session.id === id)).toBe(false);
  });

  test("[LINK-8] thousands of streams that are left one after another do not cost the link", async () => {
    const id = nextId();
    await link.startSession(id, { argv: ["sleep", "1000"], env: {}, dir: null, tty: null, stdin: false });
    for (let count = 0; count < 3_000; count += 1) (await link.attachSession(id, { stdout: 0, stderr: 0 })).close();
    expect((await link.listSessions()).some((session) => session.id === id)).toBe(true);
    await link.deleteSession(id);
  });

  test("fifty commands at once each get their own bytes", async () => {
    const all = await Promise.all(Array.from({ length: 50 }, (_, index) => runCommand(link, sh(`echo ${index}; exit ${index}`))));
    all.forEach((ran, index) => {
      expect(ran.stdout.toString()).toBe(`${index}\n`);
      expect(ran.exit?.code).toBe(index);
    });
  });
});

/** A process that has ended but that nobody collects is not alive. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\tZ/m.test(fs.readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}
