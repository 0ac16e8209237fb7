/** Sessions over cut clients and restarted daemons: every byte once, or told (docs/spec/exec.md, docs/spec/exec-log.md). */
import { createHash, randomBytes } from "node:crypto";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { sleep, waitFor } from "@sprited/base";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type ExecQuery, ExecSocket, execRaw, queryText } from "../kit/exec-socket.ts";
import { ask, askStream } from "../kit/http.ts";
import { openSimulated, type SimulatedTarget } from "../kit/simulated.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const CUTS = Number(process.env["SPRITED_TEST_CUTS"] ?? 200);
/** Room for what is under way to a client, and half as much again. */
const LOG_BYTES = 24 * 1024 * 1024;

let target: SimulatedTarget;
beforeAll(async () => {
  target = await openSimulated({
    exec: { logBytesMax: LOG_BYTES, retention: { countMax: 5, ageMsMax: 3_600_000, bytesMax: 64 * 1024 * 1024 } },
  });
  await ask(target, "/v1/sprites", { method: "POST", json: { name: "box" } });
});
afterAll(() => target[Symbol.asyncDispose]());

/** What `seq 1 count` prints. */
function numbers(count: number): string {
  return createHash("sha256")
    .update(Array.from({ length: count }, (_, at) => `${at + 1}\n`).join(""))
    .digest("hex");
}

/** One connection after another at one session; keeps the hash of the output and the position after it. */
class LastingReader {
  readonly hash = createHash("sha256");
  readonly gaps: unknown[] = [];
  position = 0;
  sessionId = "";

  /** Reads until `bytes` came (or to the end) and then breaks the connection. Returns the exit code at the end. */
  async read(query: ExecQuery, bytes: number): Promise<number | undefined> {
    const rest =
      this.sessionId === "" ? `?${queryText(query)}` : `/${this.sessionId}?${queryText({ offset: String(this.position), stdin: "false" })}`;
    const socket = await ExecSocket.open(target, "box", rest);
    let got = 0;
    const early = socket.stream(1);
    socket.onOutput = (data) => {
      // What a cut connection still delivers was not asked for.
      if (got >= bytes) return;
      const piece = data.subarray(0, bytes - got);
      got += piece.length;
      this.position += piece.length;
      this.hash.update(piece);
    };
    socket.onOutput(early);
    await socket.until("output or its end", () => got >= bytes || socket.closeCode !== undefined);
    if (this.sessionId === "") this.sessionId = socket.sessionId;
    this.gaps.push(...socket.jsonMessages.filter(({ type }) => type === "output_gap"));
    if (got >= bytes) {
      socket.drop();
      return undefined;
    }
    return socket.exitPayload?.[0];
  }
}

describe("clients", () => {
  test("[EXEC-1] [EXEC-17] a client that is cut again and again at random bytes gets the same output as one that is not", async () => {
    const count = 2_000_000;
    const reader = new LastingReader();
    let code: number | undefined;
    let cuts = 0;
    for (; code === undefined; cuts += 1)
      code = await reader.read({ cmd: ["seq", "1", String(count)] }, cuts < CUTS ? Math.floor(Math.random() * 80_000) + 1 : Infinity);
    expect([code, reader.gaps, cuts > Math.min(CUTS, 100)]).toEqual([0, [], true]);
    expect(reader.hash.digest("hex")).toBe(numbers(count));
  });

  test("[EXEC-15] input over connections cut at random bytes arrives once and in order", async () => {
    const input = randomBytes(3 * 1024 * 1024);
    let id = "";
    let output = "";
    for (let round = 0; output === ""; round += 1) {
      const common = { input_acks: "true", client: "one", stdin: "true" };
      const socket = await ExecSocket.open(
        target,
        "box",
        id === "" ? `?${queryText({ ...common, cmd: ["sha256sum"] })}` : `/${id}?${queryText({ ...common, offset: "0" })}`,
      );
      await socket.until("the session", () => socket.sessionId !== "undefined");
      id = socket.sessionId;
      let at = Number(socket.jsonMessages[0]?.["input_offset"]);
      const last = round > 40;
      const until = last ? input.length : Math.min(input.length, at + Math.floor(Math.random() * 200_000));
      for (; at < until; at += 10_000) socket.sendInput(input.subarray(at, Math.min(until, at + 10_000)));
      if (until < input.length) await sleep(Math.random() * 10);
      else {
        socket.sendInputEnd();
        await socket.end();
        output = socket.stream(1).toString();
      }
      socket.drop();
    }
    expect(output).toBe(`${createHash("sha256").update(input).digest("hex")}  -\n`);
  });

  test("[EXEC-3] a client that does not read costs no memory, holds the command back, and gets everything when it reads", async () => {
    const total = 96 * 1024 * 1024;
    const socket = await ExecSocket.open(target, "box", { cmd: ["sh", "-c", `head -c ${total} /dev/zero`] });
    await socket.until("the session", () => socket.sessionId !== "undefined");
    let got = socket.stream(1).length;
    socket.onOutput = (data) => (got += data.length);
    socket.socket.pause();
    const printed = async (): Promise<number> =>
      Number((await ask(target, `/v1/sprites/box/exec/${socket.sessionId}`)).json()["stdout_bytes"]);
    let before = -1;
    await waitFor("the command to stand still", { timeoutMs: 30_000, everyMs: 500 }, async () => {
      const last = before;
      before = await printed();
      return last === before;
    });
    expect(before).toBeLessThan(LOG_BYTES + 16 * 1024 * 1024);
    socket.socket.resume();
    await socket.end();
    expect([got, socket.exitPayload?.[0]]).toEqual([total, 0]);
  });

  test("[EXEC-3] [LOG-4] output that nobody read and that is gone is told as a gap, in sockets and in logs", async () => {
    const total = 3 * LOG_BYTES;
    const socket = await ExecSocket.open(target, "box", {
      cmd: ["sh", "-c", `sleep 0.3; head -c ${total} /dev/zero; echo end >&2`],
      max_run_after_disconnect: "1m",
    });
    await socket.until("the session", () => socket.sessionId !== "undefined");
    const id = socket.sessionId;
    socket.socket.close(1000);
    const session = async () => (await ask(target, `/v1/sprites/box/exec/${id}`)).json();
    await waitFor("the end", { timeoutMs: 30_000, everyMs: 100 }, async () => (await session())["exit_code"] === 0);
    const start = Number((await session())["log_start"]);
    expect(start).toBeGreaterThan(LOG_BYTES);
    const late = await ExecSocket.open(target, "box", `/${id}?offset=10`);
    let got = late.stream(1).length;
    late.onOutput = (data) => (got += data.length);
    await late.end();
    expect(late.jsonMessages.slice(0, 2)).toMatchObject([
      { type: "session_info", offset: 10 },
      { type: "output_gap", from: 10, to: start },
    ]);
    expect([got, late.stream(2).toString(), late.exitPayload?.[0]]).toEqual([total - start, "end\n", 0]);
    const log = await ask(target, `/v1/sprites/box/exec/${id}/log?stream=stdout&offset=10`);
    expect([log.headers["x-log-offset"], log.body.length]).toEqual([String(start), total - start]);
  });
});

describe("the daemon", () => {
  test("[EXEC-11] [EXEC-12] is restarted again and again during a stream: same output, same session, all its attributes", async () => {
    const reader = new LastingReader();
    const command = ["sh", "-c", "for part in 1 2 3 4 5 6; do seq 1 100000; sleep 0.4; done"];
    const expected = createHash("sha256");
    const part = Array.from({ length: 100_000 }, (_, at) => `${at + 1}\n`).join("");
    for (let count = 0; count < 6; count += 1) expected.update(part);
    let code: number | undefined;
    for (let round = 0; code === undefined; round += 1) {
      code = await reader.read(
        { cmd: command, dir: "/tmp", max_run_after_disconnect: "2m" },
        round < 4 ? Math.floor(part.length * 0.9) : Infinity,
      );
      if (code === undefined) await target.restart();
    }
    expect([code, reader.gaps, reader.position]).toEqual([0, [], 6 * part.length]);
    expect(reader.hash.digest("hex")).toBe(expected.digest("hex"));
    const session = (await ask(target, `/v1/sprites/box/exec/${reader.sessionId}`)).json();
    expect(session).toMatchObject({ command: command.join(" "), workdir: "/tmp", tty: false, exit_code: 0, stdout_bytes: 6 * part.length });
  });

  test("[EXEC-14] ended sessions are read after a restart, up to what retention keeps; a deleted sprite takes its own along", async () => {
    await ask(target, "/v1/sprites", { method: "POST", json: { name: "gone" } });
    for (let count = 0; count < 7; count += 1)
      await execRaw(target, "gone", { cmd: ["sh", "-c", `echo ${count}; echo bad >&2; exit ${count}`] });
    await target.restart();
    const list = async () =>
      (await ask(target, "/v1/sprites/gone/exec?ended=true")).json()["sessions"] as { id: string; exit_code: number; ended_at: string }[];
    await waitFor("retention", { timeoutMs: 10_000 }, async () => (await list()).length === 5);
    const sessions = await list();
    expect(sessions.map(({ exit_code: code }) => code)).toEqual([2, 3, 4, 5, 6]);
    expect((await ask(target, "/v1/sprites/gone/exec")).json()).toEqual({ sessions: [], count: 0 });
    const last = sessions.at(-1)?.id;
    const replay = await ExecSocket.open(target, "gone", `/${last}`);
    expect(await replay.end()).toBe(1000);
    expect([replay.stream(1).toString(), replay.stream(2).toString(), replay.exitPayload?.[0]]).toEqual(["6\n", "bad\n", 6]);
    expect((await ask(target, `/v1/sprites/gone/exec/${last}/log?stream=stderr&offset=1`)).text).toBe("ad\n");
    expect((await ask(target, `/v1/sprites/gone/exec/${last}/kill`, { method: "POST" })).status).toBe(410);
    const { id } = (await ask(target, "/v1/sprites/gone")).json() as { id: string };
    expect(await readdir(path.join(target.layout.sessions, id))).toHaveLength(5);
    await ask(target, "/v1/sprites/gone", { method: "DELETE" });
    await waitFor("the logs to go", { timeoutMs: 5_000 }, async () => !(await readdir(target.layout.sessions)).includes(id));
  });

  test("[EXEC-19] a terminal's picture survives a restart of the daemon", async () => {
    const terminal = await ExecSocket.open(target, "box", { cmd: ["sh"], tty: "true", cols: "40", rows: "10" });
    terminal.socket.send(Buffer.from("printf '\\033[2J\\033[5;7Hhere'; sleep 100\r"));
    await terminal.until("the text", () => terminal.terminal.includes("[5;7Hhere"));
    const id = terminal.sessionId;
    await target.restart();
    const back = await ExecSocket.open(target, "box", `/${id}?cols=40&rows=10`);
    await back.until("the picture", () => back.terminal.includes("here"));
    const info = back.jsonMessages[0] as { offset: number; screen_bytes: number };
    expect(info.screen_bytes).toBeGreaterThan(0);
    expect(back.terminal).not.toContain("[5;7Hhere");
    back.sendJson({ type: "signal", signal: "KILL" });
    expect(await back.end()).toBe(4137);
  });

  test("[EXEC-5] a session whose machine is gone after a restart is lost, with the reason, and its output stays readable", async () => {
    const socket = await ExecSocket.open(target, "box", { cmd: ["sh", "-c", "echo before; sleep 100"], max_run_after_disconnect: "5m" });
    await socket.until("output", () => socket.stream(1).toString() === "before\n");
    const id = socket.sessionId;
    const { id: spriteId } = (await ask(target, "/v1/sprites/box")).json() as { id: string };
    for (const machine of target.host.running()) await target.host.crash(machine.spec.incarnation);
    await target.restart();
    const session = (await ask(target, `/v1/sprites/box/exec/${id}`)).json();
    expect(session).toMatchObject({ lost: { code: "vm_lost" }, stdout_bytes: 7 });
    const response = await askStream(target, `/v1/sprites/box/exec/${id}/log?follow=true`);
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks).toString()).toBe("before\n");
    expect(spriteId).not.toBe("");
  });
});
