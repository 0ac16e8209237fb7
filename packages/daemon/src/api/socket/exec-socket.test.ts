import fs from "node:fs";
import net from "node:net";
import { waitFor } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ExecSocketClient, refusal } from "../testing/exec-socket-client.ts";
import type { MemorySession } from "../testing/memory-exec.ts";
import { openTestbed, type Testbed } from "../testing/testbed.ts";

let bed: Testbed;
beforeEach(async () => {
  bed = await openTestbed({ timings: { closeMs: 200 } });
  await bed.call("POST", "/v1/sprites", { body: { name: "box" } });
});
afterEach(() => bed[Symbol.asyncDispose]());

const open = (query: string, path?: string) => ExecSocketClient.open(bed, query, path === undefined ? {} : { path });
const session = (): MemorySession => [...bed.exec.sessions.values()].at(-1) as MemorySession;

describe("a command without terminal", () => {
  it("[API-16] session_info first, output, exit, close 1000", async () => {
    const client = await open("cmd=both");
    await client.closed();
    expect(client.headers).toMatchObject({
      "x-sprite-capabilities": "signal",
      "sprite-version": "1.0.0",
      "x-request-id": expect.any(String),
    });
    expect(client.headers["sec-websocket-extensions"]).toBeUndefined();
    expect(client.heard[0]?.kind).toBe("text");
    expect(client.texts()).toEqual([
      {
        type: "session_info",
        session_id: session().id,
        command: "both",
        created: expect.any(Number),
        cols: 0,
        rows: 0,
        is_owner: true,
        tty: false,
        offset: 0,
      },
    ]);
    expect([client.output(1), client.output(2)]).toEqual(["out\n", "err\n"]);
    expect([...(client.heard.at(-1)?.data ?? [])]).toEqual([3, 3]);
    expect(client.closeCode).toBe(1000);
  });

  it("input arrives in order up to its end; a second end and later input are nothing", async () => {
    const client = await open("cmd=cat&stdin=true");
    for (const text of ["one ", "two ", "three"]) client.socket.send(Buffer.from(`\0${text}`));
    client.socket.send(Buffer.of(4));
    client.socket.send(Buffer.of(4));
    client.socket.send(Buffer.from("\0late"));
    await client.closed();
    expect(client.output(1)).toBe("one two three");
    expect([...(client.heard.at(-1)?.data ?? [])]).toEqual([3, 0]);
  });

  it("input is dropped and its end tolerated when stdin is off", async () => {
    const client = await open("cmd=cat&stdin=false");
    client.socket.send(Buffer.of(4));
    client.socket.send(Buffer.from("\0x"));
    await client.closed();
    expect(client.output(1)).toBe("");
  });

  it("[API-16] signals end it with 128 + number", async () => {
    const client = await open("cmd=sleep");
    client.socket.send(JSON.stringify({ type: "signal", signal: "SIGTERM" }));
    await client.closed();
    expect(session().signals).toEqual(["TERM"]);
    expect([...(client.heard.at(-1)?.data ?? [])]).toEqual([3, 143]);
  });

  it("[API-16] an input message of 20 MiB is taken whole", async () => {
    const client = await open("cmd=cat&stdin=true");
    client.socket.send(Buffer.concat([Buffer.of(0), Buffer.alloc(20 * 1024 * 1024, 0x62)]));
    client.socket.send(Buffer.of(4));
    await client.closed();
    expect(client.output(1).length).toBe(20 * 1024 * 1024);
    expect(Math.max(...client.heard.map(({ data }) => data.length))).toBeLessThanOrEqual(64 * 1024);
  });

  it("[API-17] a lost command says why and ends with 255 and 1011", async () => {
    const client = await open("cmd=lose");
    await client.closed();
    expect(client.texts()[1]).toEqual({ type: "error", error: "vm_lost", message: "the sprite's VM ended while the command ran" });
    expect(client.output(2)).toContain("the sprite's VM ended");
    expect([...(client.heard.at(-1)?.data ?? [])]).toEqual([3, 255]);
    expect(client.closeCode).toBe(1011);
  });

  it("all of the request reaches the command", async () => {
    const client = await open(
      "cmd=env&cmd=a+b&path=env&env=A%3D1&env=B%3D&dir=%2Ftmp&stdin=true&max_run_after_disconnect=1m&detachable=true&cc=true",
    );
    await client.closed();
    expect(JSON.parse(client.output(1))).toEqual({
      argv: ["env", "a b"],
      env: { A: "1", B: "" },
      dir: "/tmp",
      tty: null,
      stdin: true,
      runOn: 60_000,
    });
  });
});

describe("a command in a terminal", () => {
  it("[API-16] raw bytes both ways, exit as text under both names, close 4000 + code", async () => {
    const client = await open("cmd=exit&cmd=3&tty=true&rows=24&cols=100");
    await client.closed();
    expect(client.texts()).toEqual([
      expect.objectContaining({ type: "session_info", tty: true, rows: 24, cols: 100 }),
      { type: "exit", exit_code: 3, code: 3 },
    ]);
    expect(client.closeCode).toBe(4003);
  });

  it("[API-16] closes 1000 after success", async () => {
    const client = await open("cmd=echo&cmd=hi&tty=true");
    await client.closed();
    expect(client.output("terminal")).toBe("hi\n");
    expect(client.closeCode).toBe(1000);
  });

  it("input is raw and sizes arrive", async () => {
    const client = await open("cmd=cat&tty=true");
    client.socket.send(Buffer.from("\u0004\0abc"));
    client.socket.send(JSON.stringify({ type: "resize", cols: 120, rows: 40 }));
    await client.hears("terminal", "\u0004\0abc");
    await waitFor("the size", { timeoutMs: 2_000 }, () => session().sizes.length > 0);
    expect(session().sizes).toEqual([{ cols: 120, rows: 40 }]);
    client.socket.close();
  });

  it("[API-17] a lost terminal says why too", async () => {
    const client = await open("cmd=lose&tty=true");
    await client.closed();
    expect(client.output("terminal")).toContain("outcome is not known");
    expect(client.texts().at(-1)).toEqual({ type: "exit", exit_code: 255, code: 255 });
    expect(client.closeCode).toBe(1011);
  });
});

describe("attaching", () => {
  it("begins with session_info and the output so far, on both paths", async () => {
    const first = await open("cmd=cat&tty=true");
    first.socket.send(Buffer.from("before "));
    await first.hears("terminal", "before ");
    const { id } = session();
    for (const [path, query] of [
      [`/v1/sprites/box/exec/${id}`, "stdin=true&rows=30&cols=90"],
      ["/v1/sprites/box/exec", `id=${id}&stdin=true`],
      ["/v1/sprites/box/exec", `session_id=${id}`],
    ] as const) {
      const second = await open(query, path);
      await second.hears("terminal", "before ");
      expect(second.texts()[0]).toMatchObject({ type: "session_info", session_id: id, tty: true, is_owner: false });
      second.socket.close();
      await second.closed();
    }
    expect(session().sizes).toEqual([{ cols: 90, rows: 30 }]);
    first.socket.send(Buffer.from("after"));
    await first.hears("terminal", "after");
    first.socket.close();
  });

  it("[EXEC-20] at an offset sends the output from there, and says where it begins", async () => {
    const first = await open("cmd=cat&stdin=true");
    first.socket.send(Buffer.from("\0hello"));
    await first.hears(1, "hello");
    const again = await open("offset=2", `/v1/sprites/box/exec/${session().id}`);
    await again.hears(1, "llo");
    expect(again.texts()[0]).toMatchObject({ offset: 2 });
    expect(again.output(1)).toBe("llo");
    first.socket.send(Buffer.of(4));
    await Promise.all([first.closed(), again.closed()]);
  });

  it("[EXEC-19] to a terminal draws its picture first; raw output on request", async () => {
    const first = await open("cmd=cat&tty=true");
    first.socket.send(Buffer.from("drawn"));
    await first.hears("terminal", "drawn");
    const path = `/v1/sprites/box/exec/${session().id}`;
    const drawn = await open("", path);
    await drawn.hears("terminal", "drawn");
    expect(drawn.texts()[0]).toMatchObject({ offset: 5, screen_bytes: 5 });
    const raw = await open("screen=false", path);
    await raw.hears("terminal", "drawn");
    expect(raw.texts()[0]).toMatchObject({ offset: 0 });
    expect(raw.texts()[0]).not.toHaveProperty("screen_bytes");
    first.socket.send(Buffer.from(" on"));
    await drawn.hears("terminal", "drawn on");
    for (const client of [first, drawn, raw]) client.socket.close();
  });

  it("[EXEC-15] input is acknowledged when asked for, and a client that comes back takes its own place", async () => {
    const first = await open("cmd=cat&stdin=true&input_acks=true&client=c1");
    expect(first.texts()[0]).toMatchObject({ input_offset: 0 });
    first.socket.send(Buffer.from("\0abc"));
    await first.hears(1, "abc");
    await waitFor("the acknowledgement", { timeoutMs: 2_000 }, () =>
      first.texts().some(({ type, offset }) => type === "input_ack" && offset === 3),
    );
    const path = `/v1/sprites/box/exec/${session().id}`;
    const other = await open("client=c2&offset=3", path);
    const back = await open("client=c1&input_acks=true&offset=3", path);
    await first.closed();
    expect(back.texts()[0]).toMatchObject({ offset: 3, input_offset: 3 });
    expect(session().clients).toBe(2);
    expect(session().closes).toEqual([true]);
    other.socket.close();
    back.socket.send(Buffer.of(4));
    await back.closed();
    expect(session().closes).toEqual([true, false, false]);
  });

  it("[EXEC-17] a closed socket is a client that left, a broken one a client that may come back", async () => {
    for (const [leave, lost] of [
      [(client: ExecSocketClient) => client.socket.close(1000), false],
      [(client: ExecSocketClient) => client.socket.close(), false],
      [(client: ExecSocketClient) => client.socket.terminate(), true],
    ] as const) {
      const client = await open("cmd=sleep");
      leave(client);
      await waitFor("the end of the hold", { timeoutMs: 2_000 }, () => session().closes.length > 0);
      expect(session().closes).toEqual([lost]);
    }
  });

  it("to an unknown session is refused with 404 and a body", async () => {
    const answer = await refusal(bed, "/v1/sprites/box/exec/999?stdin=true");
    expect([answer.status, JSON.parse(answer.body)]).toEqual([
      404,
      { error: "session_not_found", message: expect.stringContaining("999") },
    ]);
  });
});

describe("refusals", () => {
  it.each<[string, number, string]>([
    ["/v1/sprites/none/exec?cmd=echo", 404, "sprite_not_found"],
    ["/v1/sprites/box/exec", 400, "exec_no_command"],
    ["/v1/sprites/box/exec?cmd=x&env=A", 400, "exec_invalid"],
    ["/v1/sprites/box/exec?cmd=x&rows=many", 400, "query_invalid"],
    ["/v1/none", 404, "not_found"],
    ["/v1/sprites", 405, "method_not_allowed"],
  ])("[API-2] %s: %d %s", async (path, status, code) => {
    const answer = await refusal(bed, path);
    expect([answer.status, (JSON.parse(answer.body) as { error: string }).error]).toEqual([status, code]);
    expect(answer.headers).toMatchObject({
      "sprite-version": "1.0.0",
      "x-request-id": expect.any(String),
      "content-type": "application/json",
    });
  });

  it("[API-2] without a token: 401", async () => {
    expect((await refusal(bed, "/v1/sprites/box/exec?cmd=echo", { token: null })).status).toBe(401);
  });

  it("[API-4] control: 404 with an empty body, at once", async () => {
    const answer = await refusal(bed, "/v1/sprites/box/control");
    expect([answer.status, answer.body]).toEqual([404, ""]);
  });

  it("[API-15] a command that cannot start is refused with its status, and Retry-After where it helps", async () => {
    bed.exec.nextError = new ApiError("busy", "too many", { details: { retry_after_seconds: 7 } });
    const answer = await refusal(bed, "/v1/sprites/box/exec?cmd=echo");
    expect([answer.status, JSON.parse(answer.body)]).toEqual([429, { error: "busy", message: "too many", retry_after_seconds: 7 }]);
    expect(answer.headers["retry-after"]).toBe("7");
  });

  it("[API-15] a start that takes too long is refused and given up", async () => {
    await bed[Symbol.asyncDispose]();
    bed = await openTestbed({ timings: { execStartMs: 50 } });
    await bed.call("POST", "/v1/sprites", { body: { name: "box" } });
    bed.exec.startDelayMs = 5_000;
    const answer = await refusal(bed, "/v1/sprites/box/exec?cmd=echo");
    expect([answer.status, JSON.parse(answer.body)]).toMatchObject([504, { error: "operation_timeout" }]);
    expect(bed.exec.sessions.size).toBe(0);
  });

  it("[API-15] a broken handshake is refused before the command starts", async () => {
    const socket = net.connect(bed.server.address.port, "127.0.0.1");
    const chunks: Buffer[] = [];
    socket.on("data", (chunk) => chunks.push(chunk));
    socket.write(
      `GET /v1/sprites/box/exec?cmd=echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 12\r\nSec-WebSocket-Key: x\r\nAuthorization: Bearer ${bed.token}\r\n\r\n`,
    );
    await new Promise((resolve) => socket.on("close", resolve));
    expect(Buffer.concat(chunks).toString()).toMatch(/^HTTP\/1\.1 400 [^]*"error":"websocket_invalid"/);
    expect(bed.exec.sessions.size).toBe(0);
  });
});

describe("hard clients", () => {
  it("[API-20] messages that are not understood change nothing", async () => {
    const client = await open("cmd=cat&stdin=true");
    for (const garbage of [
      "{",
      "[1]",
      "control:{}",
      '{"type":"resize","cols":-1,"rows":1}',
      '{"type":"signal","signal":"NOPE"}',
      '{"type":1}',
    ])
      client.socket.send(garbage);
    for (const garbage of [Buffer.alloc(0), Buffer.of(9, 1, 2), Buffer.of(255), Buffer.from('{"type":"resize"}')])
      client.socket.send(garbage);
    client.socket.send(Buffer.from("\0ok"));
    client.socket.send(Buffer.of(4));
    await client.closed();
    expect([client.output(1), client.closeCode]).toEqual(["ok", 1000]);
    expect(session().signals).toEqual([]);
    expect(bed.lines.find(({ event }) => event === "exec.socket")).toMatchObject({ outcome: "exit", ignoredMessages: 10 });
  });

  it("[API-20] broken WebSocket frames end that socket only", async () => {
    const other = await open("cmd=cat&stdin=true");
    const broken = await open("cmd=sleep");
    const raw = (broken.socket as unknown as { _socket: net.Socket })._socket;
    raw.write(Buffer.of(0xff, 0xff, 0x00, 0x01, 0x02, 0x03));
    await broken.closed();
    expect(broken.closeCode).toBe(1002);
    other.socket.send(Buffer.from("\0still here"));
    await other.hears(1, "still here");
    other.socket.close();
  });

  it("[API-20] a message over 32 MiB ends its socket", async () => {
    const client = await open("cmd=cat&stdin=true");
    client.socket.send(Buffer.alloc(33 * 1024 * 1024));
    await client.closed();
    expect(client.closeCode).toBe(1009);
    await waitFor("the attachment to close", { timeoutMs: 2_000 }, () => session().clients === 0);
  });

  it("[API-21] a client that vanishes leaves its command running", async () => {
    const client = await open("cmd=sleep&tty=true");
    client.socket.terminate();
    await waitFor("the attachment to close", { timeoutMs: 2_000 }, () => session().clients === 0);
    expect([session().end, session().signals]).toEqual([undefined, []]);
    await waitFor("the log line", { timeoutMs: 2_000 }, () =>
      bed.lines.some(({ event, outcome }) => event === "exec.socket" && outcome === "detached"),
    );
  });

  it("[API-21] a client that leaves before its handshake is answered does not leave an attachment", async () => {
    bed.exec.startDelayMs = 300;
    const client = new ExecSocketClient(`${bed.server.url.replace("http", "ws")}/v1/sprites/box/exec?cmd=sleep`, bed.token);
    await waitFor("the start", { timeoutMs: 2_000 }, () => bed.sprites.counts(bed.organizations.get("acme").id).running === 1);
    client.socket.terminate();
    await waitFor("the log line", { timeoutMs: 2_000 }, () => bed.lines.some(({ outcome }) => outcome === "client_gone"));
    expect([...bed.exec.sessions.values()].every(({ clients }) => clients === 0)).toBe(true);
  });

  it("[API-18] a client that does not read holds the command back; every byte comes when it reads again", async () => {
    const total = 64 * 1024 * 1024;
    const client = await open(`cmd=flood&cmd=${total}`);
    client.socket.pause();
    const written = (): number => session().outputOffsets.stdout;
    let before = -1;
    await waitFor("the command to stand still", { timeoutMs: 10_000, everyMs: 100 }, () => {
      const still = written() === before;
      before = written();
      return still;
    });
    expect(written()).toBeLessThan(16 * 1024 * 1024);
    client.socket.resume();
    await waitFor("the end", { timeoutMs: 20_000 }, () => client.closeCode !== undefined);
    expect(client.heard.reduce((sum, { data }) => sum + (data[0] === 1 ? data.length - 1 : 0), 0)).toBe(total);
  });

  it("[API-18] a command that does not read holds its client back", async () => {
    const client = await open("cmd=sleep&stdin=true");
    const piece = Buffer.alloc(256 * 1024);
    let sent = 0;
    const raw = (client.socket as unknown as { _socket: net.Socket })._socket;
    while (client.socket.bufferedAmount < 8 * 1024 * 1024 && sent < 64 * 1024 * 1024) {
      client.socket.send(piece);
      sent += piece.length;
      if (!raw.writableNeedDrain) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect(sent).toBeLessThan(64 * 1024 * 1024);
    expect(session().inputHeld).toBeLessThan(4 * 1024 * 1024);
    client.socket.terminate();
  });

  it("[API-19] silence is filled with empty binary messages", async () => {
    await bed[Symbol.asyncDispose]();
    bed = await openTestbed({ timings: { keepAliveMs: 40 } });
    await bed.call("POST", "/v1/sprites", { body: { name: "box" } });
    for (const query of ["cmd=sleep", "cmd=sleep&tty=true"]) {
      const client = await open(query);
      await waitFor(
        "signs of life",
        { timeoutMs: 2_000 },
        () => client.heard.filter(({ kind, data }) => kind === "binary" && data.length === 0).length >= 3,
      );
      client.socket.terminate();
    }
  });

  it("a client that never answers the close frame is cut off", async () => {
    const client = await open("cmd=sleep");
    const raw = (client.socket as unknown as { _socket: net.Socket })._socket;
    raw.pause();
    expect(connectionsOf(bed)).toBe(2);
    session().signal("TERM");
    await waitFor("the server to let go", { timeoutMs: 3_000 }, () => connectionsOf(bed) <= 1);
    client.socket.terminate();
  });
});

/** Established connections on the server's side; the keep-alive one of `fetch` is among them. */
function connectionsOf(of: Testbed): number {
  const local = `0100007F:${of.server.address.port.toString(16).toUpperCase().padStart(4, "0")}`;
  const rows = fs
    .readFileSync("/proc/net/tcp", "utf8")
    .split("\n")
    .map((line) => line.trim().split(/\s+/));
  return rows.filter((columns) => columns[1] === local && columns[3] === "01").length;
}
