import net from "node:net";
import { waitFor } from "@sprited/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { MemorySession } from "../testing/memory-exec.ts";
import { openTestbed, type Testbed } from "../testing/testbed.ts";

let bed: Testbed;
beforeEach(async () => {
  bed = await openTestbed();
  await bed.call("POST", "/v1/sprites", { body: { name: "box" } });
});
afterEach(() => bed[Symbol.asyncDispose]());

const session = (): MemorySession => [...bed.exec.sessions.values()].at(-1) as MemorySession;

/** Reads the answer chunk by chunk as it is on the wire, with times. */
async function wire(query: string, body = ""): Promise<{ head: string; chunks: { atMs: number; data: Buffer }[]; endMs: number }> {
  const socket = net.connect(bed.server.address.port, "127.0.0.1");
  socket.write(
    `POST /v1/sprites/box/exec?${query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${bed.token}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
  const chunks: { atMs: number; data: Buffer }[] = [];
  let pending = Buffer.alloc(0);
  let head: string | undefined;
  for await (const piece of socket as AsyncIterable<Buffer>) {
    const atMs = performance.now();
    pending = Buffer.concat([pending, piece]);
    if (head === undefined) {
      const end = pending.indexOf("\r\n\r\n");
      if (end < 0) continue;
      head = pending.subarray(0, end).toString();
      pending = pending.subarray(end + 4);
    }
    for (let at = pending.indexOf("\r\n"); at >= 0; at = pending.indexOf("\r\n")) {
      const length = Number.parseInt(pending.subarray(0, at).toString(), 16);
      if (pending.length < at + 4 + length) break;
      if (length === 0) {
        socket.destroy();
        return { head, chunks, endMs: atMs };
      }
      chunks.push({ atMs, data: pending.subarray(at + 2, at + 2 + length) });
      pending = pending.subarray(at + 4 + length);
    }
  }
  throw new Error("the answer did not end");
}

describe("exec over HTTP", () => {
  it("[API-22] sends frames apart from each other, the exit and the end too", async () => {
    const { head, chunks, endMs } = await wire("cmd=both");
    expect(head).toMatch(/^HTTP\/1\.1 200/);
    expect(head.toLowerCase()).toContain("content-type: application/octet-stream");
    expect(head.toLowerCase()).toContain("no-transform");
    expect(chunks.map(({ data }) => data.toString("latin1"))).toEqual(["\u0001out\n", "\u0002err\n", "\u0003\u0003"]);
    // What the client measures has the jitter of a busy machine in it: of three runs the widest gaps count.
    const gapsOf = (run: Awaited<ReturnType<typeof wire>>): number[] => {
      const times = [...run.chunks.map(({ atMs }) => atMs), run.endMs];
      return times.slice(1).map((atMs, index) => atMs - (times[index] ?? 0));
    };
    const runs = [gapsOf({ head, chunks, endMs }), gapsOf(await wire("cmd=both")), gapsOf(await wire("cmd=both"))];
    for (const gap of [0, 1, 2]) expect(Math.max(...runs.map((gaps) => gaps[gap] ?? 0))).toBeGreaterThan(18);
  });

  it("[API-22] cuts large output into frames of at most 16 KiB and loses none", async () => {
    const { chunks } = await wire("cmd=flood&cmd=200000");
    expect(Math.max(...chunks.map(({ data }) => data.length))).toBeLessThanOrEqual(16 * 1024);
    const output = chunks.slice(0, -1);
    expect(output.every(({ data }) => data[0] === 1)).toBe(true);
    expect(output.reduce((sum, { data }) => sum + data.length - 1, 0)).toBe(200_000);
    expect([...(chunks.at(-1)?.data ?? [])]).toEqual([3, 0]);
  });

  it("the body is the command's input; without one it is empty", async () => {
    const withInput = await wire("cmd=cat&stdin=true", "hello");
    expect(withInput.chunks[0]?.data.toString("latin1")).toBe("\u0001hello");
    expect((await wire("cmd=cat", "also without stdin=true")).chunks[0]?.data.toString("latin1")).toBe("\u0001also without stdin=true");
    expect((await wire("cmd=cat&stdin=true")).chunks.map(({ data }) => [...data])).toEqual([[3, 0]]);
    expect((await wire("cmd=cat")).chunks.map(({ data }) => [...data])).toEqual([[3, 0]]);
  });

  it("[API-17] a lost command says why and ends with 255", async () => {
    const { chunks } = await wire("cmd=lose");
    expect(chunks[0]?.data.toString("latin1")).toMatch(/^\u0002.*outcome is not known/);
    expect([...(chunks[1]?.data ?? [])]).toEqual([3, 255]);
  });

  it("[API-21] a client that leaves ends its attachment, not the command", async () => {
    const ender = new AbortController();
    const response = await fetch(`${bed.server.url}/v1/sprites/box/exec?cmd=sleep`, {
      method: "POST",
      headers: { authorization: `Bearer ${bed.token}` },
      signal: ender.signal,
    });
    expect(response.status).toBe(200);
    expect(session().clients).toBe(1);
    ender.abort();
    await waitFor("the attachment to close", { timeoutMs: 2_000 }, () => session().clients === 0);
    expect(session().end).toBeUndefined();
    await waitFor("the log line", { timeoutMs: 2_000 }, () =>
      bed.lines.some(({ event, outcome }) => event === "exec.http" && outcome === "client_gone"),
    );
  });

  it("[API-18] a client that does not read holds the command back", async () => {
    const ender = new AbortController();
    await fetch(`${bed.server.url}/v1/sprites/box/exec?cmd=flood&cmd=${64 * 1024 * 1024}`, {
      method: "POST",
      headers: { authorization: `Bearer ${bed.token}` },
      signal: ender.signal,
    });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(session().outputOffsets.stdout).toBeLessThan(4 * 1024 * 1024);
    ender.abort();
  });

  it.each<[string, number, string]>([
    ["", 400, "exec_no_command"],
    ["cmd=x&env=A", 400, "exec_invalid"],
  ])("refuses ?%s with JSON", async (query, status, code) => {
    const response = await bed.call("POST", `/v1/sprites/box/exec?${query}`);
    expect([response.status, ((await response.json()) as { error: string }).error]).toEqual([status, code]);
    expect((await bed.call("POST", "/v1/sprites/none/exec?cmd=x")).status).toBe(404);
  });
});

describe("sessions", () => {
  const start = async (...cmd: string[]): Promise<MemorySession> => {
    await bed.exec.start(bed.organizations.get("acme").id, "box", {
      work: { kind: "command", argv: cmd, env: {}, dir: undefined, tty: undefined, stdin: false },
      runAfterDisconnectMs: undefined,
    });
    return session();
  };
  const kill = async (id: string, options: { query?: string; body?: unknown } = {}) => {
    const response = await bed.call(
      "POST",
      `/v1/sprites/box/exec/${id}/kill${options.query ?? ""}`,
      options.body === undefined ? {} : { body: options.body },
    );
    const text = await response.text();
    return {
      status: response.status,
      lines: text
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as Record<string, unknown>),
    };
  };

  it("are listed as an object with string ids; ended ones are not", async () => {
    const { id } = await start("sleep");
    await start("echo");
    expect(await (await bed.call("GET", "/v1/sprites/box/exec")).json()).toEqual({
      sessions: [
        {
          id,
          command: "sleep",
          workdir: "",
          created: expect.stringMatching(/Z$/),
          bytes_per_second: 0,
          is_active: false,
          last_activity: expect.stringMatching(/Z$/),
          tty: false,
          stdout_bytes: 0,
          stderr_bytes: 0,
          log_start: 0,
        },
      ],
      count: 1,
    });
    const all = (await (await bed.call("GET", "/v1/sprites/box/exec?ended=true")).json()) as { sessions: Record<string, unknown>[] };
    expect(all.sessions.map(({ command, exit_code, ended_at }) => [command, exit_code, typeof ended_at])).toEqual([
      ["sleep", undefined, "undefined"],
      ["echo", 0, "string"],
    ]);
    expect((await bed.call("GET", "/v1/sprites/none/exec")).status).toBe(404);
    expect(await (await bed.call("GET", `/v1/sprites/box/exec/${id}`)).json()).toMatchObject({ id, command: "sleep" });
    const missing = await bed.call("GET", "/v1/sprites/box/exec/99");
    expect([missing.status, ((await missing.json()) as { message: string }).message]).toEqual([404, expect.stringContaining("99")]);
  });

  it("[EXEC-20] have a log that is read from an offset, one stream or both, also while it grows", async () => {
    const { id, log } = await start("sleep");
    const read = async (query: string): Promise<[string | null, string]> => {
      const response = await bed.call("GET", `/v1/sprites/box/exec/${id}/log${query}`);
      return [response.headers.get("x-log-offset"), await response.text()];
    };
    log.append({ stream: "stdout", offset: 0, data: Buffer.from("one ") });
    log.append({ stream: "stderr", offset: 0, data: Buffer.from("bad ") });
    log.append({ stream: "stdout", offset: 4, data: Buffer.from("two ") });
    expect(await read("")).toEqual(["0", "one bad two "]);
    expect(await read("?offset=6")).toEqual(["6", "d two "]);
    expect(await read("?stream=stdout&offset=2")).toEqual(["2", "e two "]);
    expect(await read("?stream=stderr&offset=4")).toEqual(["4", ""]);
    const following = read("?stream=stderr&offset=4&follow=true");
    log.append({ stream: "stderr", offset: 4, data: Buffer.from("worse") });
    await bed.call("POST", `/v1/sprites/box/exec/${id}/kill?signal=KILL`);
    expect(await following).toEqual(["4", "worse"]);
    expect((await bed.call("GET", "/v1/sprites/box/exec/99/log")).status).toBe(404);
    expect((await bed.call("GET", `/v1/sprites/box/exec/${id}/log?offset=-1`)).status).toBe(400);
  });

  it("[API-23] end by the default signal, the query's or the body's", async () => {
    for (const [options, signal, code] of [
      [{}, "TERM", 143],
      [{ query: "?signal=SIGINT" }, "INT", 130],
      [{ body: { signal: "HUP", timeout: 5 } }, "HUP", 129],
    ] as const) {
      const { id } = await start("sleep");
      expect(await kill(id, options)).toEqual({
        status: 200,
        lines: [
          expect.objectContaining({ type: "signal", signal }),
          expect.objectContaining({ type: "exited" }),
          { type: "complete", exit_code: code },
        ],
      });
    }
  });

  it("[API-23] that do not end are killed", async () => {
    const { id } = await start("stubborn");
    const { lines } = await kill(id, { query: "?timeout=50ms" });
    expect(lines.map(({ type }) => type)).toEqual(["signal", "timeout", "killed", "complete"]);
    expect(lines.at(-1)).toEqual({ type: "complete", exit_code: 137 });
  });

  it("[API-23] a wait of 0s only signals", async () => {
    const { id, signals } = await start("stubborn");
    const { lines } = await kill(id, { query: "?signal=USR1&timeout=0s" });
    expect(lines.map(({ type }) => type)).toEqual(["signal", "complete"]);
    expect(signals).toEqual(["USR1"]);
  });

  it("[API-23] that have ended answer 410; unknown ones 404; bad signals 400", async () => {
    const { id } = await start("echo");
    expect(await kill(id)).toMatchObject({ status: 410, lines: [{ error: "session_ended" }] });
    expect(await kill("99")).toMatchObject({ status: 404, lines: [{ error: "session_not_found" }] });
    const alive = await start("sleep");
    expect(await kill(alive.id, { query: "?signal=NOPE" })).toMatchObject({ status: 400, lines: [{ error: "exec_invalid" }] });
    expect(await kill(alive.id, { body: { timeout: "soon" } })).toMatchObject({ status: 400, lines: [{ error: "body_invalid" }] });
  });
});
