/** What a client that leaves, vanishes or comes back means for its connection; ports on exec sockets. */
import { once } from "node:events";
import net from "node:net";
import { sleep, waitFor } from "@sprited/base";
import { openProxy } from "@sprited/protocol/client";
import type { WebSocketLike } from "@sprited/protocol/client/exec";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { ExecSocket } from "../kit/exec-socket.ts";
import { ProxySocket } from "../kit/proxy-socket.ts";
import { openSimulated, type SimulatedTarget } from "../kit/simulated.ts";
import { createSprite } from "../kit/tenants.ts";

vi.setConfig({ testTimeout: 40_000 });

const KEEP_ALIVE_MS = 150;
let target: SimulatedTarget;
let spriteId: string;
const servers: net.Server[] = [];

beforeAll(async () => {
  target = await openSimulated({ keepAliveMs: KEEP_ALIVE_MS });
  await createSprite(target, "box");
  const organization = target.features.organizations.list().find(({ slug }) => slug === target.organization);
  spriteId = target.features.sprites.idOf(organization?.id ?? "", "box");
}, 60_000);
afterAll(async () => {
  for (const server of servers) server.close();
  await target[Symbol.asyncDispose]();
});

async function serve(serveSocket: (socket: net.Socket) => void): Promise<number> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    serveSocket(socket);
  });
  server.listen(0, "127.0.0.1");
  servers.push(server);
  await once(server, "listening");
  return (server.address() as net.AddressInfo).port;
}

const holders = (): string[] => target.features.sprites.activities.holders(spriteId).map(({ kind }) => kind);

test("[PROXY-4] a peer that never ends is cut 10 s after its client has left", async () => {
  const gone = Promise.withResolvers<number>();
  let heard = "";
  const port = await serve((socket) => {
    const endless = setInterval(() => socket.write("more"), 20);
    socket.on("data", (data: Buffer) => (heard += data.toString()));
    socket.once("close", () => {
      clearInterval(endless);
      gone.resolve(performance.now());
    });
  });
  const proxy = await ProxySocket.open(target, "box", { port });
  proxy.send(Buffer.from("last words"));
  proxy.close();
  const leftMs = performance.now();
  expect((await gone.promise) - leftMs).toBeGreaterThan(5_000);
  expect(heard).toBe("last words");
});

test("[PROXY-6] a vanished client's connection waits without keeping the sprite awake, and its end is fetched later", async () => {
  const accepted = Promise.withResolvers<net.Socket>();
  const port = await serve((socket) => accepted.resolve(socket));
  const proxy = await ProxySocket.open(target, "box", { port, resumable: true });
  const peer = await accepted.promise;
  expect(holders()).toContain("connection");
  proxy.socket.terminate();
  await waitFor("no hold", { timeoutMs: 5_000 }, () => !holders().includes("connection"));
  peer.write("while you were away");
  const back = await ProxySocket.open(target, "box", { resume: proxy.answer["session_id"], offset: 0 });
  expect(back.answer).toMatchObject({ status: "connected", session_id: proxy.answer["session_id"], input_offset: 0 });
  await waitFor("what came", { timeoutMs: 5_000 }, () => back.received.toString() === "while you were away");
  const heardEnd = once(peer.resume(), "end");
  back.send({ type: "eof" });
  await heardEnd;
  back.socket.terminate();
  await waitFor("no hold again", { timeoutMs: 5_000 }, () => !holders().includes("connection"));
  peer.end("bye");
  await once(peer, "close");
  // It has ended; a client that missed the end still gets it.
  const late = await ProxySocket.open(target, "box", { resume: proxy.answer["session_id"], offset: 10 });
  await late.closed();
  expect([late.closeCode, late.received.toString()]).toEqual([1000, "were awaybye"]);
});

test("[PROXY-5] asked for twice under one key it is made once, also while it is being made", async () => {
  let accepted = 0;
  const port = await serve((socket) => {
    accepted += 1;
    socket.end("hello");
  });
  const ask = { port, resumable: true, key: "the-key" };
  const [one, two] = await Promise.all([ProxySocket.open(target, "box", ask), ProxySocket.open(target, "box", ask)]);
  const three = await ProxySocket.open(target, "box", ask);
  expect(new Set([one, two, three].map(({ answer }) => answer["session_id"])).size).toBe(1);
  await waitFor("the bytes from their beginning", { timeoutMs: 5_000 }, () => three.received.toString() === "hello");
  expect(accepted).toBe(1);
  const refused = await ProxySocket.open(target, "box", { ...ask, key: "not a key" });
  expect(refused.answer).toMatchObject({ status: "error", code: "body_invalid" });
  three.close();
});

test("[PROXY-11] a client whose WebSocket is cut before the answer asks again, and the peer is connected to once", async () => {
  let accepted = 0;
  const port = await serve((socket) => {
    accepted += 1;
    socket.pipe(socket);
  });
  // Loses the first two answers on their way to the client.
  let toLose = 2;
  const sockets = new Set<net.Socket>();
  const relay = net.createServer((client) => {
    const upstream = net.connect(Number(new URL(target.baseUrl).port), "127.0.0.1");
    for (const socket of [client, upstream]) {
      sockets.add(socket.on("error", () => {}));
      socket.once("close", () => [client, upstream].forEach((end) => end.destroy()));
    }
    client.pipe(upstream);
    upstream.on("data", (data: Buffer) => {
      if (toLose > 0 && data.includes('"status":"connected"')) {
        toLose -= 1;
        client.resetAndDestroy();
      } else client.write(data);
    });
  });
  servers.push(relay);
  relay.listen(0, "127.0.0.1");
  await once(relay, "listening");
  const told: string[] = [];
  let heard = "";
  const connection = await openProxy(
    {
      baseUrl: `http://127.0.0.1:${(relay.address() as net.AddressInfo).port}`,
      token: target.token,
      sprite: "box",
      openSocket: (url, headers) => new WebSocket(url, { headers }) as unknown as WebSocketLike,
    },
    { host: "127.0.0.1", port },
    {
      data: (bytes, taken) => {
        heard += Buffer.from(bytes).toString();
        taken();
      },
      eof: () => told.push("eof"),
      lost: () => told.push("lost"),
      back: () => told.push("back"),
    },
  );
  await connection.write(Buffer.from("once"));
  connection.end();
  await connection.ended;
  expect([heard, accepted, told]).toEqual(["once", 1, ["lost", "back", "eof"]]);
  for (const socket of sockets) socket.destroy();
});

test.each([{ resumable: true }, {}])(
  "[PROXY-13] a connection on which nothing is said keeps the sprite awake as long as its client is there (%j)",
  async (kind) => {
    const port = await serve(() => {});
    const proxy = await ProxySocket.open(target, "box", { port, ...kind });
    await sleep(4 * KEEP_ALIVE_MS);
    expect(holders()).toEqual(["connection"]);
    proxy.socket.terminate();
    await waitFor("no hold", { timeoutMs: 20_000 }, () => holders().length === 0);
  },
);

test("[PROXY-7] a newer WebSocket ends the older one; an unknown connection is told", async () => {
  const port = await serve((socket) => socket.pipe(socket));
  const one = await ProxySocket.open(target, "box", { port, resumable: true });
  one.send(Buffer.from("abc"));
  await waitFor("the echo", { timeoutMs: 5_000 }, () => one.received.length === 3);
  const two = await ProxySocket.open(target, "box", { resume: one.answer["session_id"], offset: 1 });
  await one.closed();
  expect(two.answer["input_offset"]).toBe(3);
  await waitFor("the rest", { timeoutMs: 5_000 }, () => two.received.toString() === "bc");
  two.close();
  const unknown = await ProxySocket.open(target, "box", { resume: "12345", offset: 0 });
  expect(unknown.answer).toMatchObject({ status: "error", code: "session_not_found" });
});

test("[PROXY-8] a resumable client that answers no pings counts as vanished, another is left alone", async () => {
  const port = await serve((socket) => socket.pipe(socket));
  const deaf = await ProxySocket.open(target, "box", { port, resumable: true }, { autoPong: false });
  const official = await ProxySocket.open(target, "box", { port }, { autoPong: false });
  await deaf.closed();
  expect(deaf.closeCode).toBe(1006);
  await sleep(3 * KEEP_ALIVE_MS);
  expect(official.closeCode).toBeUndefined();
  official.close();
});

test.each([
  ["nonsense", "the first message must be a JSON object"],
  ['{"host":"localhost"}', "port must be a number from 1 to 65535"],
  ['{"host":5,"port":80}', "host must be a name or an IP address"],
  ['{"resume":"x","offset":0}', "resume must be the id of a connection"],
  ['{"resume":"1","offset":-1}', "offset must be a count of bytes"],
])("[PROXY-2] %s is refused with what is wrong", async (request, error) => {
  const proxy = await ProxySocket.open(target, "box", request);
  expect(proxy.answer).toEqual({ status: "error", target: "", error, code: "body_invalid" });
});

test("[PORT-4] exec sockets tell of new ports in terminal sessions and when asked", async () => {
  const script = `const net = require("net"); setTimeout(() => net.createServer().listen(0, "127.0.0.1", function () { console.log("port " + this.address().port) }), 1500); setTimeout(() => {}, 8000)`;
  const cmd = [process.execPath, "-e", script];
  const sockets = await Promise.all(
    [{ tty: "true" }, { ports: "true" }, {}, { tty: "true", ports: "false" }].map((query) =>
      ExecSocket.open(target, "box", { cmd, ...query }),
    ),
  );
  const told = (exec: ExecSocket): Record<string, unknown>[] =>
    exec.messages
      .flatMap((message) => (message.kind === "text" ? [JSON.parse(message.text) as Record<string, unknown>] : []))
      .filter(({ type }) => type === "port_opened");
  await waitFor("the openings", { timeoutMs: 20_000 }, () => sockets.slice(0, 2).every((exec) => told(exec).length >= 4));
  expect(told(sockets[0] as ExecSocket)[0]).toEqual({
    type: "port_opened",
    port: expect.any(Number),
    address: "127.0.0.1",
    pid: expect.any(Number),
  });
  expect(sockets.slice(2).map((exec) => told(exec).length)).toEqual([0, 0]);
  for (const exec of sockets) exec.sendJson({ type: "signal", signal: "KILL" });
});
