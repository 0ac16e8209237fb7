/**
 * What an HTTP/2 session writes is taken at once, whatever the peer takes (LINK-9). Node's sessions
 * do not read while a write of theirs is under way: with full buffers in both directions two of them
 * would wait for each other for ever.
 *
 * Invariants: bytes both ways in order; what is kept for a peer that does not read is bounded by the
 * window of the HTTP/2 connection (`LINK_WINDOWS.linkBytes`), not here; either side's end is the
 * other's, and its close drops what was not sent yet. The session gets a real socket, because over
 * other streams Node's HTTP/2 is slower and orders its events differently.
 */
import { randomBytes, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import net from "node:net";
import type { Duplex } from "node:stream";
import { ignore } from "@sprited/base";

const TOKEN_BYTES = 32;

/** A socket that stands for `carrier`. Rejects when the signal aborts; the carrier is then destroyed. */
export async function eagerCarrier(carrier: Duplex, signal: AbortSignal): Promise<net.Socket> {
  try {
    const [session, relay] = await socketPair(signal);
    relay.on("data", (chunk: Buffer) => void carrier.write(chunk, ignore("told by the carrier's end")));
    carrier.on("data", (chunk: Buffer) => {
      if (!relay.write(chunk)) carrier.pause();
    });
    relay.on("drain", () => carrier.resume());
    for (const [from, to] of [
      [relay, carrier],
      [carrier, relay],
    ] as const) {
      from.on("error", ignore("its close follows"));
      // Either may have come while the pair was made.
      if (from.readableEnded) to.end();
      else from.once("end", () => to.end());
      if (from.destroyed) to.destroy();
      else from.once("close", () => to.destroy());
    }
    carrier.resume();
    return session;
  } catch (error) {
    carrier.destroy();
    throw error;
  }
}

/** Two connected sockets of this process. Whoever else finds the name does not know the token. */
async function socketPair(signal: AbortSignal): Promise<[net.Socket, net.Socket]> {
  const token = randomBytes(TOKEN_BYTES);
  const accepted = Promise.withResolvers<net.Socket>();
  const server = net.createServer((socket) => {
    socket.on("error", ignore("its close counts"));
    socket.once("readable", () => {
      const said = socket.read(TOKEN_BYTES) as Buffer | null;
      if (said?.length === TOKEN_BYTES && timingSafeEqual(said, token)) accepted.resolve(socket);
      else socket.destroy();
    });
  });
  const aborted = (): void => accepted.reject(signal.reason);
  signal.addEventListener("abort", aborted, { once: true });
  const name = `\0sprited-link-${randomBytes(16).toString("hex")}`;
  let mine: net.Socket | undefined;
  try {
    signal.throwIfAborted();
    server.once("error", accepted.reject);
    server.listen(name);
    await Promise.race([once(server, "listening"), accepted.promise]);
    mine = net.connect(name);
    mine.on("error", accepted.reject); // stays: what it means later is told by its close
    mine.write(token);
    return [mine, await accepted.promise];
  } catch (error) {
    mine?.destroy();
    throw error;
  } finally {
    signal.removeEventListener("abort", aborted);
    server.close();
  }
}
