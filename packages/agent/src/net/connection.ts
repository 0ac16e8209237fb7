/**
 * An open TCP connection in the shape of a command, so that a session carries it (CONN-3..5): what
 * the peer sends is its standard output, what it is sent its standard input, the end of both its
 * exit.
 *
 * Invariants: each direction has a descriptor of its own, so that a failed write never loses bytes
 * that the peer sent before; the end of the peer's side is one byte on standard error, after its
 * last byte; the exit code is 0 only when both sides ended in order, else the number of the error.
 */
import net from "node:net";
import os from "node:os";
import { PassThrough } from "node:stream";
import { PEER_END } from "@sprited/protocol/guest";
import type { Command } from "../spawn/spawner.ts";
import type { ChildEnd } from "../sys/libc.ts";

/** Error number of what has none of its own. */
const UNKNOWN_ERROR = 5;

/** Takes the descriptors over; both are of one connected socket. */
export function connectionCommand({ readFd, writeFd }: { readFd: number; writeFd: number }): Command {
  const incoming = new net.Socket({ fd: readFd, readable: true, writable: false });
  const outgoing = new net.Socket({ fd: writeFd, readable: false, writable: true, allowHalfOpen: true });
  const marks = new PassThrough();
  let fault: number | undefined;
  const fail = (error: Error): void => {
    fault ??= errorNumber(error);
  };
  incoming.once("end", () => void marks.write(Buffer.of(PEER_END)));
  // A peer that is gone takes no more either; nothing else would tell the writing side.
  incoming.on("error", (error) => {
    fail(error);
    outgoing.destroy();
  });
  outgoing.on("error", fail);
  const closed = (socket: net.Socket): Promise<void> => new Promise((resolve) => socket.once("close", () => resolve()));
  const ended = Promise.all([closed(incoming), closed(outgoing)]).then((): ChildEnd => {
    marks.end();
    return { code: fault ?? 0, signal: null };
  });
  return {
    pid: undefined,
    innerPid: null,
    stdout: incoming,
    stderr: marks,
    stdin: outgoing,
    ended,
    ignoresYet: () => false,
    foregroundGroup: () => undefined,
    resize: () => {},
    killAll: () => {
      fault ??= os.constants.errno.ECONNABORTED;
      incoming.destroy();
      outgoing.destroy();
    },
  };
}

/** The errno of a broken connection, as an exit code holds it. */
function errorNumber(error: NodeJS.ErrnoException): number {
  const number = Math.abs(error.errno ?? UNKNOWN_ERROR);
  return number > 0 && number < 256 ? number : UNKNOWN_ERROR;
}
