import http from "node:http";
import net, { type AddressInfo } from "node:net";
import { ApiClient, execHttp, type ExecWhat, openExec, type SocketOpener } from "@sprited/protocol/client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import WebSocket from "ws";
import { openTestbed, type Testbed } from "./testing/testbed.ts";

/** The typed client of the protocol package against this server: one proves the other. */
let bed: Testbed;
let client: ApiClient;
beforeAll(async () => {
  bed = await openTestbed();
  client = new ApiClient({ baseUrl: `${bed.server.url}/`, token: bed.token });
  await client.call("createSprite", { body: { name: "box" } });
});
afterAll(() => bed[Symbol.asyncDispose]());

describe("ApiClient", () => {
  it("calls every kind of endpoint with typed values", async () => {
    const made = await client.call("createSprite", { body: { name: "c-1", labels: ["x"] } });
    expect(made.labels).toEqual(["x"]);
    expect((await client.call("getSprite", { params: { name: "c-1" } })).id).toBe(made.id);
    expect((await client.call("listSprites", { query: { prefix: "c-", max_results: 5 } })).sprites.map(({ name }) => name)).toEqual([
      "c-1",
    ]);
    expect((await client.call("updateSprite", { params: { name: "c-1" }, body: { clear_labels: true } })).labels).toEqual([]);
    expect(await client.call("deleteSprite", { params: { name: "c-1" } })).toBeUndefined();
    expect((await client.call("health", {})).status).toBe("ready");
    const admin = new ApiClient({ baseUrl: bed.server.url, token: bed.adminToken });
    expect((await admin.call("createToken", { params: { slug: "acme" }, body: { description: "x" } })).token).toContain("/");
  });

  it("gives refusals as ApiError with code and details", async () => {
    await expect(client.call("getSprite", { params: { name: "no/pe" } })).rejects.toMatchObject({ code: "sprite_not_found" });
    await expect(client.call("createSprite", { body: { name: "BAD" } })).rejects.toMatchObject({
      code: "name_invalid",
      details: { field: "name" },
    });
  });

  it("streams lines until the caller leaves", async () => {
    const listenersBefore = bed.sprites.listeners;
    for await (const line of client.stream("listSprites", {})) {
      expect(line).toMatchObject({ type: "sprite", name: "box" });
      break;
    }
    await expect.poll(() => bed.sprites.listeners).toBe(listenersBefore);
  });

  it("tells no server, no answer and a wrong server apart", async () => {
    const silent = net.createServer(() => {});
    const other = http.createServer((_, response) => response.end('{"hello":1}'));
    await Promise.all([silent, other].map((server) => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))));
    const to = (server: net.Server) => new ApiClient({ baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
    await expect(to(silent).call("health", {}, { timeoutMs: 100 })).rejects.toMatchObject({ name: "ConnectionError", code: "timeout" });
    await expect(to(other).call("health", {})).rejects.toMatchObject({ name: "ConnectionError", code: "bad_answer" });
    const gone = to(other);
    await new Promise((resolve) => other.close(resolve));
    await expect(gone.call("health", {})).rejects.toMatchObject({ name: "ConnectionError", code: "unreachable" });
    silent.close();
  });
});

describe.each<[string, SocketOpener | undefined]>([
  ["ws", (url, headers) => new WebSocket(url, { headers, perMessageDeflate: false })],
  ["the global WebSocket", undefined],
])("openExec over %s", (name, openSocket) => {
  const start = async (what: ExecWhat, sprite = "box") => {
    const output = { stdout: "", stderr: "" };
    const connection = await openExec({ baseUrl: bed.server.url, token: bed.token, sprite, ...(openSocket ? { openSocket } : {}) }, what, {
      output: (stream, data) => void (output[stream] += Buffer.from(data).toString()),
    });
    return { connection, output };
  };
  const command = (argv: string[], rest: object = {}): ExecWhat => ({ kind: "command", argv, stdin: false, ...rest });

  it("runs a command to its exit", async () => {
    const { connection, output } = await start(command(["both"]));
    expect(connection.info).toMatchObject({ command: "both", tty: false });
    expect(await connection.ended).toBe(3);
    expect(output).toEqual({ stdout: "out\n", stderr: "err\n" });
  });

  it("sends input, also much of it, and its end", async () => {
    const { connection, output } = await start(command(["cat"], { stdin: true }));
    await connection.write(Buffer.alloc(3 * 1024 * 1024, "x"));
    connection.endInput();
    expect(await connection.ended).toBe(0);
    expect(output.stdout.length).toBe(3 * 1024 * 1024);
  });

  it("runs terminals with resize and signal, and attaches to them", async () => {
    const { connection } = await start(command(["size"], { stdin: true, tty: { cols: 100, rows: 30 } }));
    connection.resize({ cols: 120, rows: 40 });
    const second = await start({ kind: "attach", sessionId: connection.info.session_id });
    expect(second.connection.info).toMatchObject({ tty: true, is_owner: false });
    connection.signal("SIGUSR1");
    expect(await connection.ended).toBe(0);
    expect(await second.connection.ended).toBe(0);
    expect(second.output.stdout).toContain('"cols":120');
  });

  it("[API-17] a lost command rejects with its reason", async () => {
    const { connection } = await start(command(["lose"]));
    await expect(connection.ended).rejects.toMatchObject({ code: "vm_lost", message: expect.stringContaining("VM ended") });
  });

  it("a refusal rejects, with the server's error where the WebSocket shows it", async () => {
    const expected = name === "ws" ? { name: "ApiError", code: "sprite_not_found" } : { name: "ConnectionError", code: "unreachable" };
    await expect(start(command(["echo"]), "none")).rejects.toMatchObject(expected);
  });

  it("leaves a session running when it detaches", async () => {
    const { connection } = await start(command(["sleep"]));
    connection.detach();
    await expect(connection.ended).rejects.toMatchObject({ code: "closed" });
    await expect.poll(() => bed.exec.sessions.get(connection.info.session_id)?.clients).toBe(0);
    expect(bed.exec.sessions.get(connection.info.session_id)?.end).toBeUndefined();
  });
});

describe("execHttp", () => {
  const base = () => ({ baseUrl: bed.server.url, token: bed.token, sprite: "box" });

  it("runs a command with input", async () => {
    const got: string[] = [];
    const code = await execHttp({ ...base(), argv: ["cat"], input: Buffer.from("hello") }, (stream, data) =>
      got.push(`${stream}:${Buffer.from(data).toString()}`),
    );
    expect([code, got]).toEqual([0, ["stdout:hello"]]);
    expect(await execHttp({ ...base(), argv: ["exit", "9"] }, () => {})).toBe(9);
  });

  it("gives refusals as ApiError", async () => {
    await expect(execHttp({ ...base(), sprite: "none", argv: ["x"] }, () => {})).rejects.toMatchObject({ code: "sprite_not_found" });
    await expect(execHttp({ ...base(), baseUrl: "http://127.0.0.1:1", argv: ["x"] }, () => {})).rejects.toMatchObject({
      code: "unreachable",
    });
  });
});
