import { once } from "node:events";
import net from "node:net";
import { PassThrough } from "node:stream";
import { afterEach, describe, expect, test } from "vitest";
import { eagerCarrier } from "./eager-carrier.ts";

const open: (net.Socket | net.Server)[] = [];

afterEach(() => {
  for (const one of open.splice(0)) {
    if (one instanceof net.Server) one.close();
    else one.destroy();
  }
});

/** A carrier over loopback and the socket of its peer. */
async function connected(): Promise<[carrier: net.Socket, peer: net.Socket]> {
  const server = net.createServer().listen(0, "127.0.0.1");
  open.push(server);
  await once(server, "listening");
  const carrier = net.connect((server.address() as net.AddressInfo).port, "127.0.0.1");
  const [[peer]] = (await Promise.all([once(server, "connection"), once(carrier, "connect")])) as [[net.Socket], unknown];
  open.push(carrier, peer);
  return [carrier, peer];
}

async function standIn(carrier: net.Socket | PassThrough, signal = AbortSignal.timeout(10_000)): Promise<net.Socket> {
  const socket = await eagerCarrier(carrier, signal);
  open.push(socket);
  return socket;
}

describe("eagerCarrier", () => {
  test("[LINK-9] what is written is taken while the peer reads nothing; bytes both ways keep their order", async () => {
    const [carrier, peer] = await connected();
    const socket = await standIn(carrier);
    const sent = Buffer.alloc(8 * 1024 * 1024);
    for (let at = 0; at < sent.length; at += 1) sent[at] = at % 251;
    peer.pause();
    await new Promise<void>((resolve, reject) => socket.write(sent, (error) => (error ? reject(error) : resolve())));
    peer.write("still read");
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(answer.toString()).toBe("still read");
    const got: Buffer[] = [];
    let length = 0;
    const all = Promise.withResolvers<void>();
    peer.on("data", (chunk: Buffer) => {
      got.push(chunk);
      if ((length += chunk.length) >= sent.length) all.resolve();
    });
    peer.resume();
    await all.promise;
    expect(Buffer.concat(got).equals(sent)).toBe(true);
  });

  test("[LINK-3] a peer that is gone before the stand-in is ready closes it", async () => {
    const [carrier] = await connected();
    const pending = standIn(carrier);
    carrier.destroy();
    const socket = await pending;
    socket.resume();
    if (!socket.closed) await once(socket, "close");
    expect(socket.destroyed).toBe(true);
  });

  test("[LINK-3] an end that came before the stand-in was ready ends it", async () => {
    const carrier = new PassThrough();
    carrier.resume().end();
    await once(carrier, "end");
    const socket = await standIn(carrier);
    socket.resume();
    await once(socket, "end");
    expect(socket.readableEnded).toBe(true);
  });

  test("[LINK-9] an aborted signal destroys the carrier", async () => {
    const [carrier] = await connected();
    await expect(eagerCarrier(carrier, AbortSignal.abort(new Error("given up")))).rejects.toThrow("given up");
    expect(carrier.destroyed).toBe(true);
  });
});
