/**
 * From a client's messages to the command. Input is handed over in order; while the command does
 * not take it, the socket is not read, so what is held here is bounded by what one read brings.
 */
import type { Logger } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import { type ClientMessage, decodeClientMessage } from "@sprited/protocol/stream";
import type WebSocket from "ws";
import type { RawData } from "ws";
import type { Attachment, ExecSession } from "../../exec/exec.ts";

/** Input held back before the socket is paused, bytes. */
const HELD_BYTES_MAX = 1024 * 1024;

export interface SocketInputOptions {
  socket: WebSocket;
  session: ExecSession;
  attachment: Attachment;
  /** False: the command has an empty input; what the client sends is dropped. */
  stdin: boolean;
  logger: Logger;
}

export class SocketInput {
  readonly #options: SocketInputOptions;
  #waiting: Extract<ClientMessage, { kind: "input" | "input_end" }>[] = [];
  #heldBytes = 0;
  #writing = false;
  #inputOpen: boolean;
  #ignored = 0;

  constructor(options: SocketInputOptions) {
    this.#options = options;
    this.#inputOpen = options.stdin;
    options.socket.on("message", (data: RawData, isBinary: boolean) => this.#take(data, isBinary));
  }

  /** Messages that were not understood, for the log. */
  get ignored(): number {
    return this.#ignored;
  }

  #take(data: RawData, isBinary: boolean): void {
    const { session, attachment } = this.#options;
    const bytes = Array.isArray(data) ? Buffer.concat(data) : Buffer.isBuffer(data) ? data : Buffer.from(data);
    const message = decodeClientMessage(isBinary ? bytes : bytes.toString("utf8"), { tty: session.tty });
    switch (message.kind) {
      case "input":
      case "input_end":
        if (this.#inputOpen) this.#enqueue(message);
        return;
      case "resize":
        if (session.tty) attachment.resize({ cols: message.cols, rows: message.rows });
        return;
      case "signal":
        session.signal(message.signal);
        return;
      case "ignored":
        this.#ignored += 1;
    }
  }

  #enqueue(message: Extract<ClientMessage, { kind: "input" | "input_end" }>): void {
    // Nothing after the end of input counts; some clients send a second end.
    if (message.kind === "input_end") this.#inputOpen = false;
    else this.#heldBytes += message.data.length;
    this.#waiting.push(message);
    if (this.#heldBytes > HELD_BYTES_MAX) this.#options.socket.pause();
    if (!this.#writing) void this.#write();
  }

  async #write(): Promise<void> {
    const { attachment, socket, logger } = this.#options;
    this.#writing = true;
    try {
      for (let message = this.#waiting.shift(); message; message = this.#waiting.shift()) {
        if (message.kind === "input_end") attachment.endInput();
        else {
          await attachment.write(message.data);
          this.#heldBytes -= message.data.length;
          if (this.#heldBytes <= HELD_BYTES_MAX && socket.isPaused) socket.resume();
        }
      }
    } catch (error) {
      // Whoever counts comes back and sends it again; what is lost in silence would never come.
      if (!ApiError.is(error)) {
        logger.warn({ event: "exec.input", err: error }, "a client's input could not be taken; its connection is cut");
        attachment.close({ lost: true });
        socket.terminate();
      }
      this.#inputOpen = false;
      this.#waiting = [];
      this.#heldBytes = 0;
      if (socket.isPaused) socket.resume();
    } finally {
      this.#writing = false;
    }
  }
}
