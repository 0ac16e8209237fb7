/**
 * Opens TCP connections from inside the sprite's network (CONN-1, CONN-2). The socket is made
 * there and belongs there for good; connecting and reading then happen from wherever.
 *
 * Invariants: one deadline covers name look-up and every attempt; an attempt that was given up
 * leaves no descriptor behind.
 */
import fs from "node:fs";
import net from "node:net";
import { DeadlineError, ignore, withDeadline } from "@sprited/base";
import type { ConnectTarget } from "@sprited/protocol/guest";
import type { Command, Spawner } from "../spawn/spawner.ts";
import { duplicateFd, tcpSocket } from "../sys/libc.ts";
import { ConnectError, connectErrorOf } from "./connect-error.ts";
import { connectionCommand } from "./connection.ts";
import type { SpriteNetwork } from "./network.ts";
import { resolveHost } from "./resolve.ts";

/** From the request to the connection, ms: below the 10 s after which clients give up. */
const CONNECT_TIMEOUT_MS = 8_000;
/** One attempt while there are others to make, ms. */
const ATTEMPT_TIMEOUT_MS = 3_000;
/** Quiet time after which the peer's system is asked whether it is still there, ms. */
const KEEP_ALIVE_MS = 60_000;

export interface Connector {
  network: SpriteNetwork;
  /** Runs the name look-up. */
  spawner: Spawner;
}

/** Connects to `target`. Throws `ConnectError`, or `EnclosureGoneError` when the environment has ended. */
export async function connectInside(target: ConnectTarget, { network, spawner }: Connector): Promise<Command> {
  let last: ConnectError | undefined;
  try {
    return await withDeadline("connecting", { timeoutMs: CONNECT_TIMEOUT_MS }, async (signal) => {
      const addresses = await resolveHost(target.host, spawner, { signal, timeoutMs: CONNECT_TIMEOUT_MS });
      for (const [index, address] of addresses.entries()) {
        const timeoutMs = index === addresses.length - 1 ? CONNECT_TIMEOUT_MS : ATTEMPT_TIMEOUT_MS;
        try {
          return await attempt({ address, port: target.port, network, signal, timeoutMs });
        } catch (error) {
          signal.throwIfAborted();
          // Of several reasons the first is what people expect: ::1 may simply not exist.
          last ??= connectErrorOf(error);
        }
      }
      throw last ?? new ConnectError("unknown_host");
    });
  } catch (error) {
    if (error instanceof DeadlineError) throw last ?? new ConnectError("timeout", { cause: error });
    throw error;
  }
}

interface Attempt {
  address: string;
  port: number;
  network: SpriteNetwork;
  signal: AbortSignal;
  timeoutMs: number;
}

async function attempt({ address, port, network, signal, timeoutMs }: Attempt): Promise<Command> {
  const fd = network.inside(() => tcpSocket(net.isIPv6(address) ? "IPv6" : "IPv4"));
  const readFd = duplicateFd(fd);
  const writeFd = duplicateFd(fd);
  try {
    await withDeadline("one attempt to connect", { timeoutMs, signal }, async (stop) => {
      // `manualStart`: nothing is read here, the bytes belong to `readFd`.
      const socket = new net.Socket({ fd, manualStart: true } as net.SocketConstructorOpts).pause();
      try {
        await new Promise<void>((resolve, reject) => {
          socket.once("error", reject);
          stop.addEventListener("abort", () => reject(stop.reason as Error), { once: true });
          socket.setNoDelay().setKeepAlive(true, KEEP_ALIVE_MS).connect({ host: address, port }, resolve);
        });
      } finally {
        socket.on("error", ignore("the attempt is over"));
        socket.destroy();
      }
    });
  } catch (error) {
    fs.closeSync(readFd);
    fs.closeSync(writeFd);
    throw error instanceof DeadlineError ? new ConnectError("timeout", { cause: error }) : error;
  }
  return connectionCommand({ readFd, writeFd });
}
