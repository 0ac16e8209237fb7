/**
 * Whoever owns a VM may put anything in the agent's place. Whatever it says: the client gets a
 * typed error or a clear end, the daemon lives, its memory stays bounded, other sprites work.
 */
import { randomBytes } from "node:crypto";
import type { ServerHttp2Stream } from "node:http2";
import { encodeFrame, encodeJsonFrame, encodeOffsets, FrameType, GUEST_LIMITS } from "@sprited/protocol/guest";
import { startBareAgent } from "@sprited/agent/bare";
import { sleep } from "@sprited/base";
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { useTarget } from "../conformance/suite.ts";
import { ExecSocket, RefusedError } from "../kit/exec-socket.ts";
import { answerJson, type HostileScript, startHostileAgent } from "../kit/hostile-agent.ts";
import { ask } from "../kit/http.ts";
import { openSimulated } from "../kit/simulated.ts";
import { uniqueName } from "../kit/target.ts";
import { createSprite } from "../kit/tenants.ts";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

/** Growth of this process, which holds the daemon, that no single hostile agent may cause, bytes. */
const GROWTH_BYTES_MAX = 160 * 1024 * 1024;

/** What the next VM is: undefined is the real agent. */
let script: HostileScript | undefined;

const target = useTarget(() =>
  openSimulated({
    timeouts: { resumeMs: 4_000, guestCallMs: 3_000, stopMs: 1_000 },
    guest: async (ports, route) => {
      if (script) return await startHostileAgent(ports, () => script ?? {}, route);
      const agent = await startBareAgent({ bootPort: ports.boot, linkPort: ports.link });
      route(agent.address);
      return agent;
    },
  }),
);

const healthy = uniqueName("healthy");

/** Runs one command in a fresh sprite whose agent follows `hostile`; what its client gets. */
async function attempt(hostile: HostileScript): Promise<{ status: number; code: unknown; exec?: ExecSocket }> {
  const name = uniqueName("hostile");
  script = undefined;
  await createSprite(target(), name);
  script = hostile;
  try {
    const exec = await ExecSocket.open(target(), name, { cmd: ["echo", "x"], stdin: "true" });
    await exec.end(20_000);
    return { status: 101, code: exec.exitPayload?.[0], exec };
  } catch (error) {
    if (error instanceof RefusedError) return { status: error.status, code: error.code };
    throw error;
  } finally {
    script = undefined;
    expect((await ask(target(), `/v1/sprites/${name}`, { method: "DELETE" })).status).toBe(204);
  }
}

beforeAll(async () => {
  script = undefined;
  await createSprite(target(), healthy);
  const exec = await ExecSocket.open(target(), healthy, { cmd: ["true"], stdin: "false" });
  await exec.end();
});

afterEach(async () => {
  script = undefined;
  const exec = await ExecSocket.open(target(), healthy, { cmd: ["echo", "unharmed"], stdin: "false" });
  await exec.end();
  expect(exec.stream(1).toString()).toBe("unharmed\n");
});

const started = encodeJsonFrame(FrameType.started, { pid: 1, input: 0 });
const output = (offset: number, data: string | Uint8Array, stream = 1): Uint8Array =>
  encodeFrame(FrameType.output, Uint8Array.of(stream), encodeOffsets(offset), Buffer.from(data as Uint8Array));
const exit = encodeJsonFrame(FrameType.exit, { code: 0, signal: null });

/** Accepts a session and writes `parts`, then leaves the stream open or ends it. */
function session(parts: readonly Uint8Array[], options: { end?: boolean } = {}): HostileScript {
  return {
    onRequest: (stream, path) => {
      if (!/^\/sessions\/\d+(\/attach)?$/.test(path)) return answerJson(stream, {});
      stream.respond({ ":status": 200 });
      for (const part of parts) stream.write(part);
      if (options.end) stream.end();
    },
  };
}

describe("boot port", () => {
  test.each<[string, HostileScript, number[]]>([
    ["silence", { onBootstrap: () => {} }, [504, 503]],
    [
      "garbage without end of line",
      { onBootstrap: (port) => void port.write(randomBytes(2_000_000).map((byte) => (byte === 10 ? 11 : byte))) },
      [504, 502],
    ],
    ["lines that are no JSON", { onBootstrap: (port) => void port.write("nonsense\n".repeat(10_000)) }, [504, 502]],
    [
      "another incarnation's answer",
      { onBootstrap: (port) => void port.write('{"type":"bootstrapped","incarnation":"somebody-else"}\n') },
      [504, 502],
    ],
    [
      "a refusal with terminal codes in its message",
      {
        onBootstrap: (port, { incarnation }) =>
          void port.write(`${JSON.stringify({ type: "failed", incarnation, step: "clock\u001b[2J", message: "\u001b]0;owned\u0007" })}\n`),
      },
      [503],
    ],
    ["the port closed", { onBootstrap: (port) => void port.destroy() }, [502, 503, 504]],
  ])("%s is a typed error within its time", async (_what, hostile, statuses) => {
    const startedMs = performance.now();
    const outcome = await attempt(hostile);
    expect(statuses).toContain(outcome.status);
    expect(outcome.code).toMatch(/^(guest|vm|operation)_/);
    expect(performance.now() - startedMs).toBeLessThan(15_000);
  });

  test("noise without end does not fill the daemon's memory", async () => {
    const before = process.memoryUsage().rss;
    const noise = Buffer.alloc(1024 * 1024, 65);
    const outcome = await attempt({
      onBootstrap: (port) => {
        const pour = (): void => void port.write(noise, (error) => (error ? undefined : setImmediate(pour)));
        pour();
      },
    });
    expect([502, 503, 504]).toContain(outcome.status);
    expect(process.memoryUsage().rss - before).toBeLessThan(GROWTH_BYTES_MAX);
  });
});

describe("link", () => {
  test.each<[string, HostileScript]>([
    ["random bytes", { onConnection: (socket) => void socket.write(randomBytes(100_000)) }],
    ["HTTP/1.1", { onConnection: (socket) => void socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi") }],
    ["a connection that closes at once", { onConnection: (socket) => void socket.destroy() }],
    ["a connection that says nothing", { onConnection: () => {} }],
    ["hello with another proof", { onHello: (stream, honest) => answerJson(stream, { ...honest, proof: "0".repeat(64) }) }],
    ["hello of another generation", { onHello: (stream, honest) => answerJson(stream, { ...honest, generation: 99 }) }],
    ["hello of another incarnation", { onHello: (stream, honest) => answerJson(stream, { ...honest, incarnation: "other" }) }],
    ["hello that is no JSON", { onHello: (stream) => answerJson(stream, "]]]") }],
    ["hello with wrong types", { onHello: (stream, honest) => answerJson(stream, { ...honest, agent_version: { a: 1 } }) }],
    ["hello of 50 MB", { onHello: (stream) => answerJson(stream, Buffer.alloc(50_000_000, 32)) }],
    ["hello that never ends", { onHello: (stream) => stream.respond({ ":status": 200 }) }],
    ["hello refused with garbage", { onHello: (stream) => answerJson(stream, "\u001b[31mno", 500) }],
    ["hello cut off", { onHello: (stream) => stream.close(2) }],
  ])("%s is a typed error within its time", async (_what, hostile) => {
    const startedMs = performance.now();
    const outcome = await attempt(hostile);
    expect([502, 503, 504]).toContain(outcome.status);
    expect(outcome.code).toMatch(/^(guest|vm|operation)_/);
    expect(performance.now() - startedMs).toBeLessThan(15_000);
  });
});

describe("session streams", () => {
  const broken: [string, Uint8Array[]][] = [
    ["an unknown frame type", [started, Uint8Array.of(0x42, 0, 0, 0, 0)]],
    ["a frame type only the host may send", [started, encodeFrame(FrameType.signal, Buffer.from('{"signal":"KILL"}'))]],
    ["a length above the limit", [started, Uint8Array.of(FrameType.output, 0x7f, 0xff, 0xff, 0xff)]],
    ["output before started", [output(0, "early")]],
    ["output with a gap", [started, output(5, "late")]],
    ["output that repeats", [started, output(0, "abc"), output(0, "abc")]],
    ["an offset beyond 2^53", [started, encodeFrame(FrameType.output, Uint8Array.of(1), new Uint8Array(8).fill(255), Buffer.from("x"))]],
    ["output of a third stream", [started, output(0, "x", 3)]],
    ["output without a header", [started, encodeFrame(FrameType.output, Uint8Array.of(1, 2))]],
    ["exit that is no JSON", [started, encodeFrame(FrameType.exit, Buffer.from("}{"))]],
    ["exit with code and signal", [started, encodeJsonFrame(FrameType.exit, { code: 0, signal: "KILL" })]],
    ["exit with code 4000", [started, encodeJsonFrame(FrameType.exit, { code: 4000, signal: null })]],
    ["started twice", [started, started]],
    ["input taken that was never sent", [started, encodeFrame(FrameType.inputTaken, encodeOffsets(10 ** 12))]],
    ["random bytes", [randomBytes(10_000)]],
  ];

  test.each(broken)("%s: the client hears that the outcome is not known", async (_what, parts) => {
    const outcome = await attempt(session(parts));
    if (outcome.status === 101) {
      expect(outcome.code).toBe(255);
      expect(outcome.exec?.stream(2).toString()).toContain("outcome is not known");
      expect(outcome.exec?.jsonMessages).toContainEqual(
        expect.objectContaining({ type: "error", error: expect.stringMatching(/^[a-z_]+$/) }),
      );
    } else {
      expect([502, 503]).toContain(outcome.status);
      expect(outcome.code).toMatch(/^(guest|vm)_/);
    }
  });

  test("a stream that ends inside a frame or without an exit is never a success", { timeout: 200_000 }, async () => {
    for (const parts of [
      [started, output(0, "abc").subarray(0, 9)],
      [started, output(0, "abc")],
    ]) {
      const name = uniqueName("cut");
      script = undefined;
      await createSprite(target(), name);
      script = session(parts, { end: true });
      const exec = await ExecSocket.open(target(), name, { cmd: ["x"], stdin: "false" });
      await sleep(500);
      expect(exec.exitPayload?.[0]).not.toBe(0);
      script = undefined;
      expect((await ask(target(), `/v1/sprites/${name}`, { method: "DELETE" })).status).toBe(204);
      await exec.end(10_000);
      expect(exec.exitPayload?.[0]).toBe(255);
    }
  });

  test("what a refusal says cannot steer the client's terminal", async () => {
    const failed = encodeJsonFrame(FrameType.failed, { code: "internal", message: "\u001b[2J\u001b]0;owned\u0007 no" });
    const outcome = await attempt(session([failed], { end: true }));
    const shown = outcome.status === 101 ? (outcome.exec?.stream(2).toString() ?? "") : String(outcome.code);
    expect(shown).not.toMatch(/[\u001b\u0007]/);
    expect(outcome.code).not.toBe(0);
  });

  test("output after the exit is not passed on", async () => {
    const outcome = await attempt(session([started, output(0, "a"), exit, output(1, "b")], { end: true }));
    expect([outcome.code, outcome.exec?.stream(1).toString()]).toEqual([0, "a"]);
  });

  test("a flood of empty output frames neither blocks others nor ends the daemon", async () => {
    const flood = Buffer.concat(Array.from({ length: 20_000 }, () => output(0, "")));
    const outcome = await attempt(session([started, flood, exit], { end: true }));
    expect([0, 255]).toContain(outcome.code);
  });

  test("output without end and without a reader stays within bounds", async () => {
    const name = uniqueName("flood");
    script = undefined;
    await createSprite(target(), name);
    const block = 512 * 1024;
    script = {
      onRequest: (stream: ServerHttp2Stream, path) => {
        if (!/^\/sessions\/\d+$/.test(path)) return answerJson(stream, {});
        stream.respond({ ":status": 200 });
        stream.write(started);
        let offset = 0;
        const pour = (): void => {
          if (stream.destroyed) return;
          stream.write(output(offset, Buffer.alloc(block)), () => setImmediate(pour));
          offset += block;
        };
        pour();
      },
    };
    const exec = await ExecSocket.open(target(), name, { cmd: ["x"], stdin: "false" });
    await exec.until("output", () => exec.stream(1).length > 0);
    exec.socket.pause();
    const before = process.memoryUsage().rss;
    await sleep(3_000);
    expect(process.memoryUsage().rss - before).toBeLessThan(GROWTH_BYTES_MAX);
    exec.drop();
    script = undefined;
    expect((await ask(target(), `/v1/sprites/${name}`, { method: "DELETE" })).status).toBe(204);
  });

  test("a session list of lies is a typed error, not a crash", async () => {
    for (const body of [
      "[]",
      '{"sessions":{}}',
      '{"sessions":[{"id":"../../etc"}]}',
      JSON.stringify({ sessions: Array.from({ length: 20_000 }, (_, index) => ({ id: String(index) })) }),
      "x".repeat(GUEST_LIMITS.frameBytesMax * 10),
    ]) {
      const outcome = await attempt({ onRequest: (stream) => answerJson(stream, body) });
      expect(outcome.code).not.toBe(0);
    }
  });

  test("a check of a sprite whose agent lies says unhealthy", async () => {
    const name = uniqueName("liar");
    script = undefined;
    await createSprite(target(), name);
    script = {
      onRequest: (stream, path) => {
        if (path === "/status") answerJson(stream, { inner: "running", sessions: -1, inner_error: "x".repeat(100_000) });
        else if (/^\/sessions\/\d+$/.test(path)) {
          stream.respond({ ":status": 200 });
          stream.write(started);
          stream.end(exit);
        } else answerJson(stream, {});
      },
    };
    const exec = await ExecSocket.open(target(), name, { cmd: ["x"], stdin: "false" });
    await exec.end();
    const check = (await ask(target(), `/v1/sprites/${name}/check`)).json();
    expect(check["status"]).toBe("unhealthy");
    expect(String(check["reason"]).length).toBeLessThan(500);
    script = undefined;
    expect((await ask(target(), `/v1/sprites/${name}`, { method: "DELETE" })).status).toBe(204);
  });
});
