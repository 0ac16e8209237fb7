/** Starts under a key as any client can make them, over the wire. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { HTTP_EXEC_CONTENT_TYPE, HttpExecDecoder, type HttpExecFrame } from "@sprited/protocol/stream";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ExecQuery, ExecSocket, queryText, RefusedError } from "../kit/exec-socket.ts";
import { ask } from "../kit/http.ts";
import { openSimulated, type SimulatedTarget } from "../kit/simulated.ts";

let target: SimulatedTarget;
beforeAll(async () => {
  target = await openSimulated();
  await ask(target, "/v1/sprites", { method: "POST", json: { name: "box" } });
}, 60_000);
afterAll(() => target[Symbol.asyncDispose]());

async function start(query: ExecQuery, place: "" | "/start" = ""): Promise<ExecSocket> {
  return await ExecSocket.open(target, "box", `${place}?${queryText(query)}`);
}

async function refusal(query: ExecQuery, place: "" | "/start"): Promise<{ status: number; code: unknown }> {
  const error = await start(query, place).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof RefusedError)) throw new Error("the handshake was not refused", { cause: error });
  return { status: error.status, code: error.code };
}

/** A start over plain HTTP, framed; `place` as above. */
async function post(query: ExecQuery, place: "" | "/start", signal?: AbortSignal): Promise<Response> {
  const headers = { authorization: `Bearer ${target.token}`, accept: HTTP_EXEC_CONTENT_TYPE };
  const url = `${target.baseUrl}/v1/sprites/box/exec${place}?${queryText(query)}`;
  return await fetch(url, { method: "POST", headers, ...(signal ? { signal } : {}) });
}

/** Its frames, up to the one that `isEnough`. */
async function framesOf(response: Response, isEnough: (frame: HttpExecFrame) => boolean = () => false): Promise<HttpExecFrame[]> {
  const [decoder, frames]: [HttpExecDecoder, HttpExecFrame[]] = [new HttpExecDecoder(), []];
  for await (const chunk of response.body ?? []) {
    frames.push(...decoder.push(chunk as Uint8Array));
    if (frames.some(isEnough)) break;
  }
  return frames;
}

async function outcome(socket: ExecSocket): Promise<{ id: string; output: string; code: number | undefined }> {
  await socket.end();
  return { id: socket.sessionId, output: socket.stream(1).toString(), code: socket.exitPayload?.[0] };
}

test("[EXEC-26] the same start under a key is one command with one output, over a restart and after its end", async () => {
  const script = "echo ran >> ran-by-key; echo one; until test -e go-on; do sleep 0.05; done; echo two; exit 6";
  const query: ExecQuery = { cmd: ["sh", "-c", script], start_key: "my-key", max_run_after_disconnect: "60s" };
  const first = await start(query);
  await first.until("the first line", () => first.stream(1).toString() === "one\n");
  first.drop();
  const second = await start(query, "/start");
  await second.until("the first line", () => second.stream(1).toString() === "one\n");
  second.drop();
  await target.restart();
  const third = await start(query);
  await (await start({ cmd: ["touch", "go-on"] })).end();
  const ended = await outcome(third);
  expect(ended).toEqual({ id: first.sessionId, output: "one\ntwo\n", code: 6 });
  expect(await outcome(await start(query, "/start"))).toEqual(ended);
  expect(await readFile(path.join(target.layout.root, "user", "ran-by-key"), "utf8")).toBe("ran\n");
  expect(await refusal({ ...query, dir: "/tmp" }, "")).toEqual({ status: 409, code: "idempotency_key_reused" });
}, 60_000);

test("[EXEC-27] a repeated start without key is refused, and so is a malformed one", async () => {
  const cmd = ["true"];
  expect(await refusal({ cmd }, "/start")).toMatchObject({ status: 400 });
  for (const start_key of ["", "k".repeat(129), "two words", "line\nend"]) {
    expect(await refusal({ cmd, start_key }, "")).toMatchObject({ status: 400 });
    expect(await refusal({ cmd, start_key }, "/start")).toMatchObject({ status: 400 });
  }
  expect((await outcome(await start({ cmd: ["echo", "hi"], start_key: "k".repeat(128) }, "/start"))).output).toBe("hi\n");
});

test("[HTTP-10] over HTTP too the same start under a key is one command, from its first byte", async () => {
  const script = "echo ran >> ran-by-post; echo one; until test -e go-on-post; do sleep 0.05; done; echo two; exit 7";
  const query: ExecQuery = { cmd: ["sh", "-c", script], start_key: "post-key", max_run_after_disconnect: "60s" };
  const leave = new AbortController();
  const isFirstLine = (frame: HttpExecFrame): boolean => frame.kind === "output";
  const first = await framesOf(await post(query, "", leave.signal), isFirstLine);
  leave.abort();
  const second = await framesOf(await post(query, "/start"), isFirstLine);
  const socket = await start(query, "/start");
  await (await start({ cmd: ["touch", "go-on-post"] })).end();
  const third = await framesOf(await post(query, "/start"));
  const ids = [first, second, third].map(([info]) => (info?.kind === "session_info" ? [info.info.session_id, info.info["offset"]] : []));
  expect(ids).toEqual(Array.from({ length: 3 }, () => [socket.sessionId, 0]));
  const output = third.flatMap((frame) => (frame.kind === "output" ? [frame.data] : []));
  expect([Buffer.concat(output).toString(), third.at(-1)]).toEqual(["one\ntwo\n", { kind: "exit", code: 7 }]);
  expect(await outcome(socket)).toMatchObject({ output: "one\ntwo\n", code: 7 });
  expect(await readFile(path.join(target.layout.root, "user", "ran-by-post"), "utf8")).toBe("ran\n");
  expect((await post({ ...query, dir: "/tmp" }, "")).status).toBe(409);
  expect((await post({ cmd: ["true"] }, "/start")).status).toBe(400);
}, 60_000);
