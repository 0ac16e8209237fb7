/** Starts under a key as any client can make them, over the wire. */
import { readFile } from "node:fs/promises";
import path from "node:path";
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
