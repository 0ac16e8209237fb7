/** Commands asked for wrongly, WebSocket garbage, clients that leave or do not read. */
import { randomBytes } from "node:crypto";
import net from "node:net";
import { sleep, waitFor } from "@sprited/base";
import { API_LIMITS } from "@sprited/protocol/api";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { execRaw, type ExecQuery, ExecSocket, RefusedError } from "../kit/exec-socket.ts";
import { ask, askStream } from "../kit/http.ts";
import { type Target, uniqueName } from "../kit/target.ts";
import { createSprite } from "../kit/tenants.ts";
import { refusal } from "./bad-requests.ts";

/** Bytes a slow client must not make the server hold; far below what the command would print. */
const HELD_BYTES_MAX = 64 * 1024 * 1024;

export function badExec(target: () => Target, options: { serverRssBytes: () => Promise<number> }): void {
  const name = uniqueName("bad-exec");
  const refused = async (query: ExecQuery | string): Promise<[number, unknown]> => {
    const outcome = await ExecSocket.open(target(), name, query).catch((error: unknown) => error);
    if (outcome instanceof ExecSocket) outcome.drop();
    expect(outcome).toBeInstanceOf(RefusedError);
    return [(outcome as RefusedError).status, (outcome as RefusedError).code];
  };
  const sessionCount = async (): Promise<number> =>
    ((await ask(target(), `/v1/sprites/${name}/exec`)).json()["sessions"] as unknown[]).length;

  beforeAll(async () => {
    await createSprite(target(), name);
  });
  afterEach(async () => {
    expect((await execRaw(target(), name, { cmd: ["echo", "still here"] })).stdout.toString()).toBe("still here\n");
  });
  afterAll(async () => {
    await ask(target(), `/v1/sprites/${name}`, { method: "DELETE" });
  });

  describe("requests", () => {
    test("no command is 400, over WebSocket and POST", async () => {
      expect(await refused("")).toEqual([400, "exec_no_command"]);
      expect(refusal(await ask(target(), `/v1/sprites/${name}/exec`, { method: "POST", body: "" }))).toEqual([400, "exec_no_command"]);
    });

    test.each<[string, ExecQuery]>([
      ["an empty argv[0]", { cmd: [""] }],
      ["a NUL in an argument", { cmd: ["echo", "a\0b"] }],
      ["a variable without =", { cmd: ["true"], env: ["NOEQUALS"] }],
      ["a variable without a name", { cmd: ["true"], env: ["=x"] }],
      ["one argument above the limit", { cmd: ["true", "x".repeat(API_LIMITS.argumentBytesMax + 1)] }],
      ["rows that are no number", { cmd: ["true"], tty: "true", rows: "many" }],
      ["a terminal too large", { cmd: ["true"], tty: "true", cols: "1000000" }],
      ["tty that is no boolean", { cmd: ["true"], tty: "maybe" }],
      ["a duration that is none", { cmd: ["true"], max_run_after_disconnect: "soon" }],
    ])("%s is 400", async (_what, query) => {
      const [status, code] = await refused({ stdin: "false", ...query });
      expect(status).toBe(400);
      expect(["exec_invalid", "query_invalid", "exec_no_command"]).toContain(code);
    });

    test("100 KB of arguments and of environment are fine", async () => {
      const argument = randomBytes(50_000).toString("hex");
      const result = await execRaw(target(), name, {
        cmd: ["sh", "-c", 'printf "%s" "$1$BIG" | wc -c', "sh", argument],
        env: [`BIG=${argument}`],
      });
      expect(result.stdout.toString().trim()).toBe("200000");
    });

    test("a URL beyond the limit is 431, or a reset where the answer met bytes still under way", async () => {
      const cmd = ["true", ...Array.from({ length: 12 }, () => "x".repeat(100_000))];
      const outcome: unknown = await ExecSocket.open(target(), name, { cmd }).catch((error: unknown) => error);
      if (outcome instanceof RefusedError) expect(outcome.status).toBe(431);
      else expect((outcome as { code?: string }).code).toMatch(/^(ECONNRESET|EPIPE)$/);
    });
  });

  describe("handshakes", () => {
    /** Sends bytes, reads to the end, gives the status line. */
    const statusOf = async (head: string): Promise<number> => {
      const { hostname, port } = new URL(target().baseUrl);
      const socket = net.connect(Number(port), hostname);
      socket.write(`${head}\r\n\r\n`);
      const text = await new Promise<string>((resolve) => {
        let seen = "";
        socket.on("data", (chunk) => {
          seen += chunk.toString("latin1");
          if (seen.includes("\r\n\r\n")) resolve(seen);
        });
        socket.on("error", () => resolve(seen));
        socket.on("close", () => resolve(seen));
      });
      socket.destroy();
      return Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1]);
    };
    const head = (extra: string): string =>
      `GET /v1/sprites/${name}/exec?cmd=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${target().token}\r\nConnection: Upgrade\r\n${extra}`;

    test.each([
      ["no key", "Upgrade: websocket\r\nSec-WebSocket-Version: 13", 400],
      ["a wrong key", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short", 400],
      ["another version", "Upgrade: websocket\r\nSec-WebSocket-Version: 7\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400],
    ])("%s is refused and starts nothing", async (_what, extra, status) => {
      expect(await statusOf(head(extra))).toBe(status);
      expect(await sessionCount()).toBe(0);
    });

    test("another upgrade than a WebSocket is no WebSocket", async () => {
      expect(await statusOf(head("Upgrade: h2c"))).toBeLessThan(500);
      expect(await statusOf("\x16\x03\x01 garbage")).toBe(400);
    });
  });

  describe("garbage on an open socket", () => {
    test("unknown ids, broken JSON, wrong types and odd control messages change nothing", async () => {
      const exec = await ExecSocket.open(target(), name, { cmd: ["cat"], stdin: "true" });
      for (const bytes of [[], [1, 65], [2], [3, 0], [99, 1, 2], [255]]) exec.socket.send(Buffer.from(bytes));
      for (const text of [
        "",
        "{",
        "null",
        "[]",
        "12",
        '"x"',
        "control:{}",
        "\u0000",
        '{"type":5}',
        '{"type":"resize","cols":"x","rows":null}',
        '{"type":"resize","cols":-1,"rows":1e9}',
        '{"type":"signal"}',
        '{"type":"signal","signal":{"a":1}}',
        `{"type":"signal","signal":"${"X".repeat(5_000)}"}`,
        '{"type":"exit","exit_code":5}',
      ]) {
        exec.socket.send(text);
      }
      exec.sendInput("through");
      exec.sendInputEnd();
      await exec.end();
      expect([exec.stream(1).toString(), exec.exitPayload?.toString("hex")]).toEqual(["through", "00"]);
    });

    test("bytes that are no WebSocket frames end this socket only", async () => {
      const exec = await ExecSocket.open(target(), name, { cmd: ["sleep", "30"], stdin: "true", max_run_after_disconnect: "1s" });
      const raw = (exec.socket as unknown as { _socket: net.Socket })._socket;
      raw.write(randomBytes(4_096));
      await exec.end();
      await waitFor("the session's end", { timeoutMs: 20_000, everyMs: 50 }, async () => (await sessionCount()) === 0);
    });

    test("a message above the limit closes with 1009", async () => {
      const exec = await ExecSocket.open(target(), name, { cmd: ["sleep", "30"], stdin: "true", max_run_after_disconnect: "1s" });
      exec.socket.send(Buffer.alloc(API_LIMITS.messageBytesMax + 2));
      expect(await exec.end()).toBe(1009);
      await waitFor("the session's end", { timeoutMs: 20_000, everyMs: 50 }, async () => (await sessionCount()) === 0);
    });
  });

  describe("clients that leave or do not read", () => {
    test("gone in the middle of output: the command gets TERM after its run-on time", async () => {
      const exec = await ExecSocket.open(target(), name, { cmd: ["yes"], stdin: "false", max_run_after_disconnect: "1s" });
      await exec.until("output", () => exec.stream(1).length > 100_000);
      exec.drop();
      await waitFor("the session's end", { timeoutMs: 20_000, everyMs: 50 }, async () => (await sessionCount()) === 0);
    });

    test("gone in the middle of an HTTP exec: the command ends", async () => {
      const response = await askStream(target(), `/v1/sprites/${name}/exec?cmd=yes&max_run_after_disconnect=1s`, {
        method: "POST",
        headers: { "content-length": "0" },
      });
      await new Promise((resolve) => response.once("data", resolve));
      response.destroy();
      await waitFor("the session's end", { timeoutMs: 30_000, everyMs: 50 }, async () => (await sessionCount()) === 0);
    });

    test("gone while uploading: the command sees the end of the connection, nothing hangs", async () => {
      const exec = await ExecSocket.open(target(), name, {
        cmd: ["sh", "-c", "sleep 0.2; cat > /dev/null"],
        stdin: "true",
        max_run_after_disconnect: "1s",
      });
      exec.sendInput(randomBytes(8 * 1024 * 1024));
      exec.drop();
      await waitFor("the session's end", { timeoutMs: 20_000, everyMs: 50 }, async () => (await sessionCount()) === 0);
    });

    test("a client that does not read holds its command back, not the server's memory nor others", async () => {
      const exec = await ExecSocket.open(target(), name, {
        cmd: ["sh", "-c", "i=0; while [ $i -lt 3000 ]; do head -c 100000 /dev/zero; i=$((i+1)); done"],
        stdin: "false",
      });
      await exec.until("output", () => exec.stream(1).length > 0);
      exec.socket.pause();
      const before = await options.serverRssBytes();
      await sleep(4_000);
      expect((await options.serverRssBytes()) - before).toBeLessThan(HELD_BYTES_MAX);
      expect((await execRaw(target(), name, { cmd: ["echo", "others"] })).stdout.toString()).toBe("others\n");
      exec.drop();
      await ask(target(), `/v1/sprites/${name}/exec/${exec.sessionId}/kill?signal=KILL`, { method: "POST" });
    });

    test("a slow client gets every byte in order", async () => {
      const exec = await ExecSocket.open(target(), name, {
        cmd: [
          "sh",
          "-c",
          "i=0; while [ $i -lt 200 ]; do head -c 50000 /dev/zero | tr '\\0' \"$(printf '\\\\%03o' $((97 + i % 26)))\"; i=$((i+1)); done",
        ],
        stdin: "false",
      });
      for (let round = 0; round < 10; round += 1) {
        exec.socket.pause();
        await sleep(100);
        exec.socket.resume();
        await sleep(20);
      }
      await exec.end();
      const expected = Buffer.concat(Array.from({ length: 200 }, (_, index) => Buffer.alloc(50_000, 97 + (index % 26))));
      expect(exec.stream(1).equals(expected)).toBe(true);
    });
  });
}
