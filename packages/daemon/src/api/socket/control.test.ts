import { once } from "node:events";
import { waitFor } from "@sprited/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import WebSocket from "ws";
import type { Caller } from "../../organization/index.ts";
import type { ApiContext } from "../handler.ts";
import { refusal } from "../testing/exec-socket-client.ts";
import type { MemorySession } from "../testing/memory-exec.ts";
import { openTestbed, type Testbed } from "../testing/testbed.ts";
import { ControlOperation } from "./control-operation.ts";

let bed: Testbed;
beforeEach(async () => {
  bed = await openTestbed({ control: true, timings: { closeMs: 200, keepAliveMs: 40 } });
  await bed.call("POST", "/v1/sprites", { body: { name: "box" } });
});
afterEach(() => bed[Symbol.asyncDispose]());

const session = (): MemorySession => [...bed.exec.sessions.values()].at(-1) as MemorySession;

/** A client of the control connection that keeps everything it hears. */
class Control {
  readonly socket: WebSocket;
  readonly heard: (string | Buffer)[] = [];
  closeCode: number | undefined;

  constructor({ bed: target = bed, ...options }: WebSocket.ClientOptions & { bed?: Testbed } = {}) {
    this.socket = new WebSocket(`${target.server.url.replace("http", "ws")}/v1/sprites/box/control`, {
      headers: { authorization: `Bearer ${target.token}` },
      ...options,
    });
    this.socket.on("message", (data: Buffer, isBinary) => this.heard.push(isBinary ? data : data.toString()));
    this.socket.on("close", (code) => (this.closeCode = code));
    this.socket.on("error", () => {}); // seen as a close
  }

  static async open(options?: WebSocket.ClientOptions & { bed?: Testbed }): Promise<Control> {
    const control = new Control(options);
    await once(control.socket, "open");
    return control;
  }

  start(args: Record<string, unknown>, op = "exec"): void {
    this.socket.send(`control:${JSON.stringify({ type: "op.start", op, args })}`);
  }

  /** The outcomes so far. */
  outcomes(): unknown[] {
    return this.heard.flatMap((one) => (typeof one === "string" && one.startsWith("control:") ? [JSON.parse(one.slice(8))] : []));
  }

  async outcome(count = 1): Promise<unknown> {
    return await waitFor("the outcome", { timeoutMs: 5_000 }, () => this.outcomes()[count - 1]);
  }

  output(id: number): string {
    return Buffer.concat(this.heard.flatMap((one) => (typeof one !== "string" && one[0] === id ? [one.subarray(1)] : []))).toString();
  }
}

describe("a control connection", () => {
  it("[CTRL-4][CTRL-6] session_info, output, exit frame, outcome; then the next command", async () => {
    const control = await Control.open();
    control.start({ cmd: ["both"] });
    expect(await control.outcome()).toEqual({ type: "op.complete", args: { exitCode: 3 } });
    expect(JSON.parse(control.heard[0] as string)).toMatchObject({ type: "session_info", session_id: session().id, tty: false });
    expect([control.output(1), control.output(2), [...(control.heard.at(-2) as Buffer)]]).toEqual(["out\n", "err\n", [3, 3]]);
    control.start({ cmd: ["echo", "again"] });
    expect(await control.outcome(2)).toEqual({ type: "op.complete", args: { exitCode: 0 } });
    expect(control.output(1)).toBe("out\nagain\n");
    expect(control.closeCode).toBeUndefined();
  });

  it("[CTRL-3][CTRL-5] arguments arrive; input that came before the command is kept for it", async () => {
    const control = await Control.open();
    bed.exec.startDelayMs = 50;
    control.start({ cmd: ["cat"], env: ["A=1"], dir: "/tmp", stdin: "true" });
    for (const text of ["one ", "two"]) control.socket.send(Buffer.from(`\0${text}`));
    control.socket.send(Buffer.of(4));
    control.socket.send(Buffer.of(4));
    await control.outcome();
    expect(control.output(1)).toBe("one two");
    control.start({ cmd: ["env"], env: ["A=1"], dir: "/tmp", stdin: "false" });
    await control.outcome(2);
    expect(JSON.parse(control.output(1).slice("one two".length))).toMatchObject({ env: { A: "1" }, dir: "/tmp", stdin: false });
  });

  it("[CTRL-3][CTRL-5] a terminal: sizes as text and as bytes, signals, the exit as text", async () => {
    const control = await Control.open();
    control.start({ cmd: ["size"], tty: "true", rows: "24", cols: "100" });
    control.socket.send(Buffer.from('{"type":"resize","cols":120,"rows":40}'));
    control.socket.send('{"type":"resize","cols":130,"rows":50}');
    control.socket.send(Buffer.from('{"type":"signal","signal":"SIGTERM"}'));
    expect(await control.outcome()).toEqual({ type: "op.complete", args: { exitCode: 0 } });
    expect(session().sizes).toEqual([
      { cols: 120, rows: 40 },
      { cols: 130, rows: 50 },
    ]);
    expect(control.heard.some((one) => typeof one === "string" && one === '{"type":"exit","exit_code":0,"code":0}')).toBe(true);
  });

  it.each<[string, string, Record<string, unknown>, RegExp]>([
    ["an operation that is not offered", "fs.read", { path: "/x" }, /^not_available_yet: /],
    ["no command", "exec", {}, /^exec_no_command: /],
    ["malformed arguments", "exec", { cmd: "ls" }, /^exec_invalid: /],
    ["a command whose outcome is not known", "exec", { cmd: ["lose"] }, /VM ended/],
  ])("[CTRL-7] %s is op.error; the connection stays usable", async (_, op, args, text) => {
    const control = await Control.open();
    control.start(args, op);
    expect(await control.outcome()).toEqual({ type: "op.error", args: { error: expect.stringMatching(text) } });
    control.start({ cmd: ["echo", "fine"] });
    await control.outcome(2);
    expect(control.output(1)).toBe("fine\n");
  });

  it("[CTRL-8] what is not understood is ignored; a second operation at once ends the connection", async () => {
    const control = await Control.open();
    for (const message of ["hello", '{"type":"release"}', "control:{}", Buffer.of(4), Buffer.from("\0late")]) control.socket.send(message);
    control.start({ cmd: ["sleep"] });
    await waitFor("the command", { timeoutMs: 5_000 }, () => bed.exec.sessions.size === 1);
    control.start({ cmd: ["echo"] });
    await waitFor("the close", { timeoutMs: 5_000 }, () => control.closeCode !== undefined);
    expect(control.closeCode).toBe(1002);
    await waitFor("the attachment to close", { timeoutMs: 5_000 }, () => session().clients === 0);
    expect([session().end, bed.exec.sessions.size]).toEqual([undefined, 1]);
    const broken = await Control.open();
    broken.socket.send("control:7");
    await waitFor("the close", { timeoutMs: 5_000 }, () => broken.closeCode === 1002);
  });

  it("[CTRL-9] a client that does not read holds the command back; its leaving ends the attachment only", async () => {
    // With the signs of life of a real server: one that reads nothing answers none, and would be taken for gone meanwhile.
    await using patient = await openTestbed({ control: true });
    await patient.call("POST", "/v1/sprites", { body: { name: "box" } });
    const control = await Control.open({ bed: patient });
    control.start({ cmd: ["flood", String(64 * 1024 * 1024)] });
    control.socket.pause();
    await waitFor("the command", { timeoutMs: 5_000 }, () => patient.exec.sessions.size === 1);
    const [flood] = patient.exec.sessions.values();
    await waitFor("output", { timeoutMs: 5_000 }, () => (flood?.outputOffsets.stdout ?? 0) > 0);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(flood?.clients).toBe(1);
    expect(flood?.outputOffsets.stdout).toBeLessThan(16 * 1024 * 1024);
    control.socket.terminate();
    await waitFor("the attachment to close", { timeoutMs: 5_000 }, () => flood?.clients === 0);
  });

  it.each([
    ["behind and taking output: it is there", 2 * 1024 * 1024, undefined, true],
    ["behind and gone", 2 * 1024 * 1024, new Error("closed"), false],
    ["not behind: what the transport takes is no sign", 0, undefined, false],
  ])("[CTRL-9] a client %s", async (_, bufferedAmount, failure, isHeard) => {
    let heard = 0;
    const socket = {
      readyState: 1,
      OPEN: 1,
      bufferedAmount,
      send: (_data: unknown, _options: unknown, sent: (error?: Error) => void) => sent(failure),
    };
    const place = {
      socket: socket as unknown as WebSocket,
      context: { features: bed.features, timings: { execStartMs: 5_000 } } as unknown as ApiContext,
      caller: { organizationId: bed.organizations.list()[0]?.id ?? "" } as Caller,
      spriteName: "box",
      gone: new AbortController().signal,
      onTaken: () => (heard += 1),
    };
    expect(await new ControlOperation(place, "exec", { cmd: ["echo", "hi"] }).run()).toBe("exit");
    expect(heard > 0).toBe(isHeard);
  });

  it("[CTRL-9] a client that answers no ping counts as gone", async () => {
    const control = await Control.open({ autoPong: false });
    control.start({ cmd: ["sleep"] });
    await waitFor("the close", { timeoutMs: 5_000 }, () => control.closeCode !== undefined);
    await waitFor("the attachment to close", { timeoutMs: 5_000 }, () => session().clients === 0);
    const alive = await Control.open();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(alive.closeCode).toBeUndefined();
  });

  it("[CTRL-3] needs a token and an existing sprite, and wakes nothing", async () => {
    expect((await refusal(bed, "/v1/sprites/box/control", { token: null })).status).toBe(401);
    expect((await refusal(bed, "/v1/sprites/none/control")).status).toBe(404);
    await Control.open();
    expect((await (await bed.call("GET", "/v1/sprites/box")).json()) as unknown).toMatchObject({ status: "cold" });
  });

  it("[CTRL-2] is never offered to the Go client", async () => {
    const answer = await refusal(bed, "/v1/sprites/box/control", { headers: { "user-agent": "sprites-go-sdk/1.0" } });
    expect([answer.status, answer.body]).toEqual([404, ""]);
  });
});

describe("without control connections", () => {
  it("[CTRL-1] every client is answered 404 with an empty body", async () => {
    await using plain = await openTestbed();
    for (const token of [undefined, null]) {
      const answer = await refusal(plain, "/v1/sprites/box/control", token === null ? { token } : {});
      expect([answer.status, answer.body]).toEqual([404, ""]);
    }
  });
});
