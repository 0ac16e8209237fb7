/**
 * Agents that lie. Whatever a guest sends, the daemon's end stays bounded, closes the link with
 * `guest_protocol` or `guest_timeout`, and lives on.
 */
import { createHmac } from "node:crypto";
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import { waitFor } from "@sprited/base";
import { encodeFrame, encodeFrameHeader, encodeJsonFrame, encodeOffsets, FrameType, GUEST_LIMITS } from "@sprited/protocol/guest";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { bootstrapGuest, type GuestCarrier, type GuestLink, openLink } from "./index.ts";

const key = { incarnation: "abc", key: new Uint8Array(32).fill(7) };
const servers: net.Server[] = [];
const sockets = new Set<net.Socket>();

afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  for (const socket of sockets) socket.destroy();
  sockets.clear();
});

async function listen(onConnection: (socket: net.Socket) => void): Promise<GuestCarrier> {
  const server = net.createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    onConnection(socket);
  });
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as net.AddressInfo;
  return {
    openBootPort: async () => {
      const socket = net.connect(port, "127.0.0.1");
      await once(socket, "connect");
      return socket;
    },
    link: { kind: "tcp", host: "127.0.0.1", port },
  };
}

type Route = (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders, session: http2.ServerHttp2Session) => void;

/** An agent that greets properly and then answers as `route` does. */
async function greetingAgent(route: Route): Promise<GuestLink> {
  const carrier = await listen((socket) => {
    const session = http2.performServerHandshake(socket) as http2.ServerHttp2Session;
    session.on("error", () => {});
    session.on("stream", (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => {
      stream.on("error", () => {});
      if (headers[":path"] === "/clock") {
        stream.respond({ ":status": 200 });
        stream.end("{}");
        return;
      }
      if (headers[":path"] !== "/hello") return route(stream, headers, session);
      let body = "";
      stream.on("data", (chunk: Buffer) => (body += chunk.toString()));
      stream.on("end", () => {
        const { nonce } = JSON.parse(body) as { nonce: string };
        const proof = createHmac("sha256", key.key).update(`agent:${key.incarnation}:${nonce}`).digest("hex");
        stream.respond({ ":status": 200 });
        stream.end(JSON.stringify({ generation: 1, agent_version: "hostile", incarnation: key.incarnation, proof }));
      });
    });
  });
  return await openLink(carrier, key, { timeoutMs: 5000 });
}

/** An agent whose session streams answer with these bytes. */
async function readFrom(
  bytes: Uint8Array | ((stream: http2.ServerHttp2Stream) => void),
): Promise<{ link: GuestLink; outcome: unknown; bytes: number }> {
  const link = await greetingAgent((stream) => {
    stream.respond({ ":status": 200 });
    if (typeof bytes === "function") bytes(stream);
    else stream.end(bytes);
  });
  const stream = await link.startSession("1", { argv: ["true"], env: {}, dir: null, tty: null, stdin: false });
  let read = 0;
  const outcome = await (async () => {
    for await (const event of stream.events) if (event.type === "output") read += event.data.length;
    return "ended";
  })().catch((error: unknown) => error);
  return { link, outcome, bytes: read };
}

const started = encodeJsonFrame(FrameType.started, { pid: 5, input: 0 });
const output = (offset: number, data: Uint8Array, stream = 1): Uint8Array =>
  encodeFrame(FrameType.output, new Uint8Array([stream]), encodeOffsets(offset), data);
const join = (...parts: Uint8Array[]): Uint8Array => Buffer.concat(parts);

describe("session streams", () => {
  const violations: [string, Uint8Array][] = [
    ["garbage", Buffer.from("this is no frame at all")],
    ["a length above the limit", Buffer.from([FrameType.output, 0xff, 0xff, 0xff, 0xff])],
    ["output before started", output(0, Buffer.from("x"))],
    ["output that jumps ahead", join(started, output(5, Buffer.from("x")))],
    ["output that repeats", join(started, output(0, Buffer.from("xx")), output(1, Buffer.from("x")))],
    ["an offset above 2^53", join(started, encodeFrame(FrameType.output, new Uint8Array([1]), new Uint8Array(8).fill(255)))],
    ["output of a third stream", join(started, output(0, Buffer.from("x"), 3))],
    ["output without an offset", join(started, encodeFrame(FrameType.output, new Uint8Array([1, 0])))],
    ["a frame that is the host's to send", join(started, encodeJsonFrame(FrameType.resume, { stdout: 0, stderr: 0 }))],
    ["started twice", join(started, started)],
    ["an exit that is both code and signal", join(started, encodeJsonFrame(FrameType.exit, { code: 0, signal: "TERM" }))],
    ["an exit that is neither", join(started, encodeJsonFrame(FrameType.exit, { code: null, signal: null }))],
    ["an exit code beyond a byte", join(started, encodeJsonFrame(FrameType.exit, { code: 256, signal: null }))],
    ["an exit that is no JSON", join(started, encodeFrame(FrameType.exit, Buffer.from("{")))],
    ["input taken that was never sent", join(started, encodeFrame(FrameType.inputTaken, encodeOffsets(1000)))],
    ["a failure with an unknown code", encodeJsonFrame(FrameType.failed, { code: "made_up", message: "" })],
    ["a failure with an endless message", encodeJsonFrame(FrameType.failed, { code: "internal", message: "x".repeat(100_000) })],
    ["a stream cut inside a frame", join(started, encodeFrameHeader(FrameType.output, 100), Buffer.from("x"))],
  ];
  test.each(violations)("[FRAME-1] [FRAME-3] %s closes the link", async (_what, bytes) => {
    const { link, outcome } = await readFrom(bytes);
    expect(outcome).toMatchObject({ code: "guest_protocol" });
    expect(await link.closed).toMatchObject({ code: "guest_protocol" });
    await expect(link.status()).rejects.toMatchObject({ code: "guest_protocol" });
  });

  test("[FRAME-1] random bytes never do anything but close the link", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 400 }), fc.boolean(), async (noise, proper) => {
        const { link, outcome } = await readFrom(proper ? join(started, noise) : noise);
        expect(["guest_protocol", "guest_link_lost"]).toContain((outcome as { code: string }).code);
        await link[Symbol.asyncDispose]();
      }),
      { numRuns: 40 },
    );
  });

  test("a stream that ends without an exit is a lost link for its reader alone", async () => {
    const { link, outcome } = await readFrom(started);
    expect(outcome).toMatchObject({ code: "guest_link_lost" });
    await link[Symbol.asyncDispose]();
  });

  test("an agent that sends faster than anyone reads is held back", async () => {
    let sent = 0;
    const link = await greetingAgent((stream) => {
      stream.respond({ ":status": 200 });
      stream.write(started);
      const chunk = Buffer.alloc(512 * 1024);
      const push = (): void => {
        for (; !stream.destroyed;) {
          const frame = output(sent, chunk);
          sent += chunk.length;
          if (!stream.write(frame)) break;
        }
        stream.once("drain", push);
      };
      push();
    });
    await link.startSession("1", { argv: ["true"], env: {}, dir: null, tty: null, stdin: false });
    let before = -1;
    await waitFor("it to stand still", { timeoutMs: 10_000, everyMs: 300 }, () => {
      const isStill = sent > 0 && sent === before;
      before = sent;
      return isStill;
    });
    expect(sent).toBeLessThan(8 * 1024 * 1024);
    await link[Symbol.asyncDispose]();
  });

  test("a stream that never answers runs into the caller's time", async () => {
    const link = await greetingAgent(() => {});
    const start = { argv: ["true"], env: {}, dir: null, tty: null, stdin: false };
    await expect(link.startSession("1", start, { timeoutMs: 200 })).rejects.toMatchObject({ code: "guest_timeout" });
    await link[Symbol.asyncDispose]();
  });
});

describe("answers", () => {
  const bodies: [string, string][] = [
    ["no JSON", "<html>"],
    ["another shape", JSON.stringify({ inner: "splendid" })],
    ["too long", JSON.stringify({ inner: "x".repeat(GUEST_LIMITS.jsonBytesMax) })],
    ["deeply nested", "[".repeat(50_000)],
  ];
  test.each(bodies)("[LINK-4] a body that is %s closes the link", async (_what, body) => {
    const link = await greetingAgent((stream) => {
      stream.respond({ ":status": 200 });
      stream.end(body);
    });
    await expect(link.status()).rejects.toMatchObject({ code: "guest_protocol" });
    expect(await link.closed).toMatchObject({ code: "guest_protocol" });
  });

  test("[LINK-4] a body that never ends is cut at its limit", async () => {
    let sent = 0;
    const link = await greetingAgent((stream) => {
      stream.respond({ ":status": 200 });
      const chunk = Buffer.alloc(64 * 1024, " ");
      const push = (): void => {
        while (!stream.destroyed && stream.write(chunk)) sent += chunk.length;
        stream.once("drain", push);
      };
      push();
    });
    await expect(link.listSessions()).rejects.toMatchObject({ code: "guest_protocol" });
    expect(sent).toBeLessThan(64 * 1024 * 1024);
  });

  test("[LINK-4] a body that trickles runs into the caller's time", async () => {
    const link = await greetingAgent((stream) => {
      stream.respond({ ":status": 200 });
      stream.write("{");
    });
    await expect(link.status({ timeoutMs: 200 })).rejects.toMatchObject({ code: "guest_timeout" });
    await link[Symbol.asyncDispose]();
  });

  test("[LINK-4] an error without a valid body closes the link", async () => {
    const link = await greetingAgent((stream) => {
      stream.respond({ ":status": 500 });
      stream.end("oops");
    });
    await expect(link.status()).rejects.toMatchObject({ code: "guest_protocol" });
  });

  test("[LINK-4] the message of an error stays out of what clients are shown", async () => {
    const link = await greetingAgent((stream) => {
      stream.respond({ ":status": 400 });
      stream.end(JSON.stringify({ code: "invalid", message: "<b>from the guest</b>" }));
    });
    const error = await link.status().catch((each: Error) => each);
    expect(error).toMatchObject({ code: "guest_refused", message: expect.not.stringContaining("from the guest") });
    await link[Symbol.asyncDispose]();
  });

  test("headers without end end the link", async () => {
    const link = await greetingAgent((stream) => {
      const many = Object.fromEntries(Array.from({ length: 2000 }, (_, index) => [`x-${index}`, "y".repeat(100)]));
      try {
        stream.respond({ ":status": 200, ...many });
      } catch {
        stream.destroy();
      }
    });
    await expect(link.status({ timeoutMs: 2000 })).rejects.toMatchObject({
      code: expect.stringMatching(/^guest_(protocol|link_lost|timeout)$/),
    });
    await link[Symbol.asyncDispose]();
  });
});

describe("greeting", () => {
  test("[LINK-1] bytes that are no HTTP/2 are a broken protocol", async () => {
    const carrier = await listen((socket) => socket.write("HTTP/1.1 400 Bad Request\r\n\r\n".repeat(50)));
    await expect(openLink(carrier, key, { timeoutMs: 3000 })).rejects.toMatchObject({ code: "guest_protocol" });
  });

  test("[LINK-1] a wrong proof is a broken protocol", async () => {
    const carrier = await listen((socket) => {
      const session = http2.performServerHandshake(socket) as http2.ServerHttp2Session;
      session.on("error", () => {});
      session.on("stream", (stream: http2.ServerHttp2Stream) => {
        stream.on("error", () => {});
        stream.respond({ ":status": 200 });
        stream.end(JSON.stringify({ generation: 1, agent_version: "x", incarnation: key.incarnation, proof: "0".repeat(64) }));
      });
    });
    await expect(openLink(carrier, key, { timeoutMs: 3000 })).rejects.toMatchObject({ code: "guest_protocol" });
  });

  test("[LINK-1] a peer that accepts and says nothing runs into the time", async () => {
    const carrier = await listen(() => {});
    await expect(openLink(carrier, key, { timeoutMs: 400 })).rejects.toMatchObject({ code: "guest_timeout" });
  });

  test("[LINK-3] a peer that hangs up is dialled again until the time is over", async () => {
    let dials = 0;
    const carrier = await listen((socket) => {
      dials += 1;
      socket.destroy();
    });
    await expect(openLink(carrier, key, { timeoutMs: 600 })).rejects.toMatchObject({ code: "guest_timeout" });
    expect(dials).toBeGreaterThan(3);
    expect(dials).toBeLessThan(60);
  });
});

describe("boot port", () => {
  const bootstrap = {
    type: "bootstrap" as const,
    generation: 1,
    incarnation: key.incarnation,
    key: Buffer.from(key.key).toString("base64"),
    time_ms: 0,
    entropy: "",
    identity: { hostname: "", machine_id: "", renew: false },
    environment: {},
    root_serial: "",
  };

  test("[BOOT-1] noise before the answer is passed over", async () => {
    const carrier = await listen((socket) => {
      socket.write(Buffer.concat([Buffer.alloc(200_000, 0x41), Buffer.from("\n{}\nnull\n\u0000\n")]));
      socket.write(`${JSON.stringify({ type: "bootstrapped", incarnation: "of another run" })}\n`);
      socket.write(`${JSON.stringify({ type: "bootstrapped", incarnation: key.incarnation })}\n`);
    });
    await bootstrapGuest(carrier, bootstrap, { timeoutMs: 3000 });
  });

  test("[BOOT-1] noise without end is a broken protocol", async () => {
    const carrier = await listen((socket) => {
      const push = (): void => {
        while (!socket.destroyed && socket.write(Buffer.alloc(64 * 1024, 0x41)));
        socket.once("drain", push);
      };
      push();
    });
    await expect(bootstrapGuest(carrier, bootstrap, { timeoutMs: 5000 })).rejects.toMatchObject({ code: "guest_protocol" });
  });

  test("[BOOT-4] a failed step, a closed port and silence are told apart", async () => {
    const failed = await listen((socket) =>
      socket.write(`${JSON.stringify({ type: "failed", incarnation: key.incarnation, step: "clock", message: "no" })}\n`),
    );
    await expect(bootstrapGuest(failed, bootstrap, { timeoutMs: 3000 })).rejects.toMatchObject({ code: "guest_refused_start" });
    const closed = await listen((socket) => socket.end());
    await expect(bootstrapGuest(closed, bootstrap, { timeoutMs: 3000 })).rejects.toMatchObject({ code: "guest_link_lost" });
    const silent = await listen(() => {});
    await expect(bootstrapGuest(silent, bootstrap, { timeoutMs: 200 })).rejects.toMatchObject({ code: "guest_timeout" });
  });
});
