/**
 * A connection between its upgrade request and our answer. It must be read to notice that the
 * client left; what arrives early is kept for the WebSocket, up to a bound.
 */
import { STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import type { ErrorReply } from "../error-reply.ts";
import { cutOffAfter } from "./cut-off.ts";

/** Bytes a client may send before its handshake is answered. */
const EARLY_BYTES_MAX = 64 * 1024;
/** How long a refused client may take to read the answer and go, ms. */
const REFUSED_MS = 1_000;

export class PendingSocket {
  /** Aborts when the client is gone. */
  readonly gone: AbortSignal;
  readonly #socket: Duplex;
  readonly #early: Buffer[];
  readonly #left = new AbortController();
  #earlyBytes: number;

  constructor(socket: Duplex, head: Buffer) {
    this.#socket = socket;
    this.#early = [head];
    this.#earlyBytes = head.length;
    this.gone = this.#left.signal;
    socket.on("data", this.#onData);
    socket.on("end", this.#onLeft);
    socket.on("close", this.#onLeft);
    socket.on("error", this.#onLeft);
  }

  /** Hands the connection over, paused; nothing that arrived early is lost. */
  take(): { socket: Duplex; head: Buffer } {
    this.#socket.pause();
    this.#socket.off("data", this.#onData);
    this.#socket.off("end", this.#onLeft);
    this.#socket.off("close", this.#onLeft);
    // The error listener stays: an error without a listener would end the daemon.
    return { socket: this.#socket, head: Buffer.concat(this.#early) };
  }

  /** Answers without an upgrade and ends the connection. */
  refuse(reply: ErrorReply): void {
    const { socket } = this.take();
    if (socket.destroyed) return;
    socket.end(rawReply(reply));
    // Unread bytes at a close would reset the connection before the client has read the answer.
    socket.resume();
    socket.once("end", () => socket.destroy());
    cutOffAfter(REFUSED_MS, socket, () => socket.destroy());
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#early.push(chunk);
    this.#earlyBytes += chunk.length;
    if (this.#earlyBytes > EARLY_BYTES_MAX) this.#socket.destroy();
  };

  readonly #onLeft = (): void => {
    this.#left.abort(new Error("the client is gone"));
  };
}

/** An answer as it goes over the wire, for connections that are no longer the HTTP server's. */
export function rawReply(reply: ErrorReply): string {
  const headers = { ...reply.headers, connection: "close", "content-length": String(Buffer.byteLength(reply.body)) };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${reply.status} ${STATUS_CODES[reply.status] ?? ""}\r\n${lines.join("")}\r\n${reply.body}`;
}
