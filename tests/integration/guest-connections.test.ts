/** Connections made by a real agent, without a VM: what the peer sends, what it is sent, how they end and why they fail. */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import net from "node:net";
import os from "node:os";
import type { GuestLink } from "@sprited/daemon";
import { GUEST_LIMITS, PEER_END, type PortsLine } from "@sprited/protocol/guest";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type BareGuest, emptyRan, nextId, readAll, type SessionStream, startBareGuest } from "../kit/bare-guest.ts";

let guest: BareGuest;
let link: GuestLink;

beforeAll(async () => {
  guest = await startBareGuest();
  link = await guest.link();
});
afterAll(async () => {
  await link[Symbol.asyncDispose]();
  await guest[Symbol.asyncDispose]();
});

/** A server for one test. */
async function serve(
  serveSocket: (socket: net.Socket) => void,
  host = "127.0.0.1",
): Promise<{ port: number; [Symbol.asyncDispose](): Promise<void> }> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    serveSocket(socket);
  });
  server.listen(0, host);
  await once(server, "listening");
  const port = (server.address() as net.AddressInfo).port;
  return {
    port,
    [Symbol.asyncDispose]: async () => {
      server.close();
    },
  };
}

const connect = (port: number, host = "localhost"): Promise<SessionStream> => link.startSession(nextId(), { connect: { host, port } });

describe("a connection", () => {
  test("[CONN-1] [CONN-3] carries both directions and half-closes both ways", async () => {
    await using server = await serve((socket) => {
      let heard = "";
      socket.on("data", (data: Buffer) => {
        heard += data.toString();
      });
      // Answers only after the other side's end: needs a half-close.
      socket.on("end", () => socket.end(`heard ${heard}`));
    });
    const stream = await connect(server.port);
    void stream.sendInput(0, Buffer.from("hello"));
    stream.endInput(5);
    const ran = await readAll(stream);
    expect(ran.failed).toBeUndefined();
    expect(ran.stdout.toString()).toBe("heard hello");
    expect([...ran.stderr]).toEqual([PEER_END]);
    expect(ran.exit).toEqual({ code: 0, signal: null });
  });

  test("[CONN-3] input goes on after the peer has ended its side", async () => {
    const heard = Promise.withResolvers<string>();
    await using server = await serve((socket) => {
      let text = "";
      socket.end("bye");
      socket.on("data", (data: Buffer) => {
        text += data.toString();
      });
      socket.on("end", () => heard.resolve(text));
    });
    const stream = await connect(server.port);
    const ran = emptyRan();
    for await (const event of stream.events) {
      if (event.type === "output") ran[event.stream] = Buffer.concat([ran[event.stream], event.data]);
      if (event.type === "exit") ran.exit = event.exit;
      if (event.type === "output" && event.stream === "stderr") {
        void stream.sendInput(0, Buffer.from("still here"));
        stream.endInput(10);
      }
    }
    expect([ran.stdout.toString(), await heard.promise, ran.exit?.code]).toEqual(["bye", "still here", 0]);
  });

  test("[CONN-4] 64 MB both ways at once, byte for byte", { timeout: 60_000 }, async () => {
    await using server = await serve((socket) => socket.pipe(socket));
    const data = randomBytes(64 * 1024 * 1024);
    const stream = await connect(server.port);
    void stream.sendInput(0, data).then(() => stream.endInput(data.length));
    const hash = createHash("sha256");
    const offsets = { stdout: 0, stderr: 0 };
    let exit: number | null | undefined;
    for await (const event of stream.events) {
      if (event.type === "exit") exit = event.exit.code;
      if (event.type !== "output") continue;
      offsets[event.stream] += event.data.length;
      if (event.stream === "stdout") hash.update(event.data);
      stream.acknowledge(offsets);
    }
    expect([offsets.stdout, exit]).toEqual([data.length, 0]);
    expect(hash.digest("hex")).toBe(createHash("sha256").update(data).digest("hex"));
  });

  test("[CONN-4] a peer whose bytes are not acknowledged is held back", async () => {
    let sent = 0;
    await using server = await serve((socket) => {
      const more = (): void => {
        while (!socket.destroyed && sent < 256 * 1024 * 1024) {
          sent += 1024 * 1024;
          if (!socket.write(Buffer.alloc(1024 * 1024))) return void socket.once("drain", more);
        }
      };
      more();
    });
    const stream = await connect(server.port);
    for await (const event of stream.events)
      if (event.type === "output" && event.offset + event.data.length >= GUEST_LIMITS.retainBytesMax) break;
    const before = sent;
    await new Promise((resolve) => setTimeout(resolve, 300));
    // Socket buffers may fill; the peer never gets far beyond them.
    expect(sent - before).toBeLessThan(32 * 1024 * 1024);
  });

  test("[CONN-5] a peer that resets ends it with the error's number", async () => {
    await using server = await serve((socket) => socket.once("data", () => socket.resetAndDestroy()));
    const stream = await connect(server.port);
    void stream.sendInput(0, Buffer.from("x"));
    expect((await readAll(stream)).exit).toEqual({ code: 104, signal: null });
  });

  test("[CONN-5] KILL closes it", async () => {
    const gone = Promise.withResolvers<void>();
    await using server = await serve((socket) => {
      socket.on("data", () => {});
      socket.once("close", () => gone.resolve());
      socket.once("end", () => socket.end());
    });
    const stream = await connect(server.port);
    for await (const event of stream.events) if (event.type === "started") break;
    const again = await link.attachSession(lastId(), { stdout: 0, stderr: 0 });
    again.signal("KILL");
    expect((await readAll(again)).exit).toEqual({ code: 103, signal: null });
    await gone.promise;
  });

  test("[SESS-4] [CONN-6] is listed, and goes on at any byte over another stream", async () => {
    await using server = await serve((socket) => socket.pipe(socket));
    const id = nextId();
    const first = await link.startSession(id, { connect: { host: "127.0.0.1", port: server.port } });
    void first.sendInput(0, Buffer.from("first "));
    let got = "";
    for await (const event of first.events) {
      if (event.type === "output") got += Buffer.from(event.data).toString();
      if (got === "first ") break;
    }
    const listed = (await link.listSessions()).find((session) => session.id === id);
    expect(listed).toMatchObject({ connect: { host: "127.0.0.1" }, argv: [], pid: null, kept_from: { stdout: 0, stderr: 0 } });
    const second = await link.attachSession(id, { stdout: 6, stderr: 0 });
    void second.sendInput(0, Buffer.from("first second"));
    second.endInput(12);
    const ran = await readAll(second, { ...emptyRan(), stdout: Buffer.from(got) });
    expect(ran.stdout.toString()).toBe("first second");
  });
});

describe("where it goes", () => {
  test("[CONN-1] localhost is ::1 where nothing listens on 127.0.0.1", async () => {
    await using server = await serve((socket) => socket.end("six"), "::1");
    const stream = await connect(server.port);
    stream.endInput(0);
    expect((await readAll(stream)).stdout.toString()).toBe("six");
  });

  test.each(["127.0.0.1", "[::1]", "::", "0.0.0.0", "localhost."])("[CONN-1] %s reaches a server on every address", async (host) => {
    await using server = await serve((socket) => socket.end("all"), "::");
    const stream = await connect(server.port, host);
    stream.endInput(0);
    expect((await readAll(stream)).stdout.toString()).toBe("all");
  });

  test("[CONN-1] a name is looked up by the guest's own resolver", async () => {
    await using server = await serve((socket) => socket.end("named"), "::");
    const stream = await connect(server.port, os.hostname());
    stream.endInput(0);
    expect((await readAll(stream)).stdout.toString()).toBe("named");
  });

  test.each([
    ["no-such-host.invalid", "unknown_host"],
    ["-v", "unknown_host"],
    ["$(id)", "unknown_host"],
    ["127.0.0.1", "refused"],
  ])("[CONN-2] %s fails as %s", async (host, reason) => {
    const server = await serve(() => {});
    await server[Symbol.asyncDispose]();
    await expect(connect(server.port, host)).rejects.toMatchObject({ code: "guest_unreachable", cause: { message: reason } });
  });

  test("[CONN-2] a failed one leaves nothing behind", async () => {
    expect((await link.listSessions()).filter((session) => session.connect?.host === "no-such-host.invalid")).toEqual([]);
  });
});

describe("listening ports", () => {
  const server = (address: string): string =>
    `const s = require("net").createServer(); s.listen(0, ${JSON.stringify(address)}, () => console.log(s.address().port))`;

  test("[PORTS-1] [PORTS-2] what listens is told with its process, then what is opened and closed", async () => {
    const abort = new AbortController();
    const lines = link.watchPorts({ signal: abort.signal })[Symbol.asyncIterator]();
    const first = (await lines.next()).value as PortsLine;
    expect(first.closed).toEqual([]);
    const id = nextId();
    const stream = await link.startSession(id, {
      argv: [process.execPath, "-e", server("127.0.0.1")],
      env: {},
      dir: null,
      tty: null,
      stdin: true,
    });
    let port = 0;
    for await (const event of stream.events) {
      if (event.type !== "output") continue;
      port = Number(Buffer.from(event.data).toString());
      break;
    }
    const pid = (await link.listSessions()).find((session) => session.id === id)?.pid;
    expect((await lines.next()).value).toEqual({ opened: [{ port, address: "127.0.0.1", pid }], closed: [] });
    const again = await link.attachSession(id, { stdout: 0, stderr: 0 });
    again.signal("KILL");
    expect((await lines.next()).value).toEqual({ opened: [], closed: [{ port, address: "127.0.0.1", pid }] });
    abort.abort();
    expect((await lines.next()).done).toBe(true);
    await link.deleteSession(id);
  });
});

/** The id that was handed out last. */
function lastId(): string {
  return String(Number(nextId()) - 1);
}
