/**
 * Gets a byte stream to the agent: TCP to the management NIC, or the serial port. A guest that was
 * just resumed may lose the first packet and the kernel would wait a second to send it again, so
 * dials overlap and the first that connects wins.
 */
import net from "node:net";
import type { Duplex } from "node:stream";
import { ignore, sleep } from "@sprited/base";
import { announceSerialLink, type WaitOptions } from "./boot-port.ts";
import { GuestError } from "./errors.ts";
import type { GuestCarrier } from "./link.ts";

/** A further dial begins when the last one has not connected for this long, ms; grows to the second value. */
const OVERLAP_MS = 80;
const OVERLAP_MS_MAX = 1000;
/** Pause after a refused dial, ms. */
const REFUSED_PAUSE_MS = 20;
/** Bytes of an older session that may lie before the line of a new one. */
const STALE_BYTES_MAX = 64 * 1024 * 1024;

/** Opens a carrier for one HTTP/2 session. Tries until the signal aborts. */
export async function openCarrier(carrier: GuestCarrier, options: WaitOptions & { signal: AbortSignal }): Promise<Duplex> {
  const { link } = carrier;
  if (link.kind === "tcp") return await dialTcp(link.host, link.port, options.signal);
  const line = await announceSerialLink(carrier, options);
  const port = await behindLine(await link.open({ signal: options.signal }), line, options.signal);
  // Only now: the agent drops what comes before it knows of the new session.
  port.write(line);
  return port;
}

async function dialTcp(host: string, port: number, signal: AbortSignal): Promise<net.Socket> {
  const open = new Set<net.Socket>();
  const won = Promise.withResolvers<net.Socket>();
  const attempt = async (): Promise<void> => {
    const socket = net.connect({ host, port, noDelay: true });
    open.add(socket);
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once("connect", resolve);
        socket.once("error", reject);
        socket.once("close", () => reject(new Error("closed")));
      });
      won.resolve(socket);
    } catch (error) {
      open.delete(socket);
      throw error;
    }
  };
  let winner: net.Socket | undefined;
  try {
    for (let overlapMs = OVERLAP_MS; ; overlapMs = Math.min(2 * overlapMs, OVERLAP_MS_MAX)) {
      const refused = attempt().then(
        () => undefined,
        () => sleep(REFUSED_PAUSE_MS, { signal }),
      );
      refused.catch(ignore("the dial was given up"));
      winner = await Promise.race([won.promise, refused.then(() => undefined), sleep(overlapMs, { signal }).then(() => undefined)]);
      // A connected attempt resolves both; the winner is known then.
      winner ??= [...open].find((socket) => socket.readyState === "open");
      if (winner) return winner;
      signal.throwIfAborted();
    }
  } finally {
    for (const socket of open) {
      if (socket === winner) continue;
      socket.on("error", ignore("another dial won"));
      socket.destroy();
    }
  }
}

/** A Duplex that begins behind `line`; what came before belongs to an older session. */
async function behindLine(port: Duplex, line: Buffer, signal: AbortSignal): Promise<Duplex> {
  let tail: Buffer = Buffer.alloc(0);
  let skipped = 0;
  const found = Promise.withResolvers<Buffer>();
  const receive = (chunk: Buffer): void => {
    const bytes = Buffer.concat([tail, chunk]);
    const at = bytes.indexOf(line);
    if (at >= 0) {
      port.pause();
      port.off("data", receive);
      found.resolve(bytes.subarray(at + line.length));
      return;
    }
    skipped += chunk.length;
    tail = bytes.subarray(-(line.length - 1));
    if (skipped > STALE_BYTES_MAX) found.reject(new GuestError("guest_protocol", "the guest does not begin a new link"));
  };
  const lost = (): void => found.reject(new GuestError("guest_link_lost", "the serial link was closed"));
  const aborted = (): void => found.reject(signal.reason);
  port.on("data", receive);
  port.once("close", lost);
  port.on("error", ignore("its close is what counts"));
  signal.addEventListener("abort", aborted, { once: true });
  try {
    const rest = await found.promise;
    if (rest.length > 0) port.unshift(rest);
    return port;
  } catch (error) {
    port.destroy();
    throw error;
  } finally {
    port.off("close", lost);
    signal.removeEventListener("abort", aborted);
  }
}
