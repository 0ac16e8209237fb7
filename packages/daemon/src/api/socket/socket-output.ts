/**
 * From a command to a client's WebSocket: `session_info` first, then every byte in order, last
 * the exit. A slow client holds the command back; a silent command still shows signs of life.
 */
import { ignore, sleep } from "@sprited/base";
import {
  type ServerText,
  closeCodeAfterExit,
  CloseCode,
  encodeExit,
  encodeFrame,
  exitByte,
  StreamId,
  type PortEvent,
} from "@sprited/protocol/stream";
import type WebSocket from "ws";
import type { Attachment, SessionEnd } from "../../exec/exec.ts";
import { LOST_EXIT_CODE, lostText } from "./lost.ts";

/** Largest message we send, bytes. */
const MESSAGE_BYTES_MAX = 64 * 1024;
/** Unsent bytes at which output waits for the client. */
const BUFFER_BYTES_MAX = 1024 * 1024;

const EMPTY = new Uint8Array();

export class SocketOutput implements Disposable {
  readonly #socket: WebSocket;
  readonly #tty: boolean;
  readonly #keepAliveMs: number;
  readonly #over = new AbortController();
  #lastSentMs = performance.now();
  sentBytes = 0;

  constructor(options: { socket: WebSocket; tty: boolean; keepAliveMs: number }) {
    this.#socket = options.socket;
    this.#tty = options.tty;
    this.#keepAliveMs = options.keepAliveMs;
    void this.#keepAlive().catch(ignore("the session is over"));
  }

  text(message: ServerText | PortEvent): void {
    this.#send(JSON.stringify(message), false);
  }

  /** Sends the bytes that draw a terminal's picture. */
  async picture(data: Uint8Array): Promise<void> {
    await this.#sendBytes("stdout", data);
  }

  /** Sends all output from a log position on; resolves at its end, or when the socket is closed. */
  async pump(attachment: Attachment, options: { from: number }): Promise<void> {
    for await (const piece of attachment.output) {
      if (!this.isOpen) return;
      if (piece.kind === "gap") {
        const to = piece.position + piece.bytes;
        if (to > options.from) this.text({ type: "output_gap", from: Math.max(piece.position, options.from), to });
        continue;
      }
      const data = piece.data.subarray(Math.max(0, options.from - piece.position));
      await this.#sendBytes(piece.stream, data);
      if (!this.isOpen) return;
      this.sentBytes += data.length;
    }
  }

  /** Says how the session ended and closes the socket. */
  end(end: SessionEnd): void {
    if (!this.isOpen) return;
    const code = end.kind === "exit" ? exitByte(end.exit) : LOST_EXIT_CODE;
    if (end.kind === "lost") {
      this.text({ type: "error", error: end.code, message: end.reason });
      const line = Buffer.from(lostText(end, { tty: this.#tty }));
      this.#send(this.#tty ? line : encodeFrame(StreamId.stderr, line), true);
    }
    if (this.#tty) this.text({ type: "exit", exit_code: code, code });
    else this.#send(encodeExit(code), true);
    this.#socket.close(end.kind === "lost" ? CloseCode.lost : closeCodeAfterExit(code, { tty: this.#tty }));
  }

  get isOpen(): boolean {
    return this.#socket.readyState === this.#socket.OPEN;
  }

  [Symbol.dispose](): void {
    this.#over.abort();
  }

  async #sendBytes(stream: "stdout" | "stderr", data: Uint8Array): Promise<void> {
    const room = this.#tty ? MESSAGE_BYTES_MAX : MESSAGE_BYTES_MAX - 1;
    for (let at = 0; at < data.length && this.isOpen; at += room) {
      const piece = data.subarray(at, at + room);
      await this.#sendOutput(this.#tty ? piece : encodeFrame(stream === "stdout" ? StreamId.stdout : StreamId.stderr, piece));
    }
  }

  /** Waits for the transport only when it is behind: one message at a time would cost throughput. */
  async #sendOutput(message: Uint8Array): Promise<void> {
    this.#lastSentMs = performance.now();
    if (this.#socket.bufferedAmount < BUFFER_BYTES_MAX) {
      this.#socket.send(message, { binary: true }, ignoreSendError);
      return;
    }
    await new Promise<void>((resolve) => this.#socket.send(message, { binary: true }, () => resolve()));
  }

  #send(message: string | Uint8Array, binary: boolean): void {
    this.#lastSentMs = performance.now();
    if (this.isOpen) this.#socket.send(message, { binary }, ignoreSendError);
  }

  /** An empty binary message is the one sign of life that every client counts and none shows. */
  async #keepAlive(): Promise<void> {
    for (;;) {
      const silentMs = performance.now() - this.#lastSentMs;
      if (silentMs >= this.#keepAliveMs) this.#send(EMPTY, true);
      const waitMs = this.#lastSentMs + this.#keepAliveMs - performance.now();
      await sleep(Math.max(1, waitMs), { signal: this.#over.signal });
    }
  }
}

/** A message that could not be sent means a closed socket, which is handled where it closes. */
const ignoreSendError: (error?: Error) => void = ignore("the socket is closed");
