/**
 * The control connection: one WebSocket that runs operations one after another
 * (docs/spec/control.md). Off unless the configuration switches it on, and never offered to the Go
 * client, whose own use of it is faulty: docs/adr/0013-control-off-by-default.md says why.
 *
 * Invariants: at most one operation runs; what a client sends before its command runs is kept, up
 * to a bound, and handed over in order; a client that leaves ends its attachment, not the command.
 */
import type { IncomingMessage } from "node:http";
import { every, ignore, type Logger } from "@sprited/base";
import { type ClientMessage, decodeControlData, decodeControlRequest, encodeControlAnswer } from "@sprited/protocol/stream";
import type WebSocket from "ws";
import type { RawData } from "ws";
import type { Caller } from "../../organization/index.ts";
import type { ApiContext } from "../handler.ts";
import { ControlOperation, operationError } from "./control-operation.ts";
import { cutOffAfter } from "./cut-off.ts";

/** Messages that wait for the command to start or to take them, bytes. */
const HELD_BYTES_MAX = 1024 * 1024;
/** Silence of a client, which neither answers nor takes output, after which it counts as gone, in keep-alive periods. */
const PERIODS_MAX = 3;
/** WebSocket close code: the client broke the protocol. */
const PROTOCOL_ERROR = 1002;

/** True when this client gets a control connection. */
export function offersControl(context: ApiContext, request: IncomingMessage): boolean {
  return context.control && !/^sprites-go-sdk\//i.test(request.headers["user-agent"] ?? "");
}

export interface ControlOptions {
  socket: WebSocket;
  context: ApiContext;
  caller: Caller;
  spriteName: string;
  logger: Logger;
}

/** Serves the socket until it closes; how many operations it ran. Never rejects. */
export async function serveControl(options: ControlOptions): Promise<{ operations: number }> {
  const connection = new ControlConnection(options);
  await connection.closed;
  return { operations: connection.operations };
}

class ControlConnection {
  readonly closed: Promise<void>;
  operations = 0;
  readonly #options: ControlOptions;
  /** The operation that runs, from its request on. */
  #operation: ControlOperation | undefined;
  #heldBytes = 0;
  #lastHeardMs: number;
  readonly #gone = new AbortController();

  constructor(options: ControlOptions) {
    this.#options = options;
    const { socket, context } = options;
    this.#lastHeardMs = context.clock.monotonicMs();
    socket.on("message", (data: RawData, isBinary: boolean) => this.#take(data, isBinary));
    socket.on("pong", () => this.#heard());
    socket.on("error", (error) => {
      options.logger.debug({ event: "control.socket", err: error }, "the client broke the WebSocket protocol or its connection");
      cutOffAfter(context.timings.closeMs, socket, () => socket.terminate());
    });
    const probing = every(context.timings.keepAliveMs, () => this.#probe());
    this.closed = new Promise((resolve) => {
      socket.once("close", () => {
        probing[Symbol.dispose]();
        this.#gone.abort(new Error("the client is gone"));
        this.#operation?.leave();
        resolve();
      });
    });
  }

  #heard(): void {
    this.#lastHeardMs = this.#options.context.clock.monotonicMs();
  }

  #probe(): void {
    const { socket, context } = this.#options;
    if (socket.isPaused) return this.#heard(); // we hold the client back ourselves
    if (context.clock.monotonicMs() - this.#lastHeardMs > PERIODS_MAX * context.timings.keepAliveMs) socket.terminate();
    else if (socket.readyState === socket.OPEN) socket.ping();
  }

  #take(data: RawData, isBinary: boolean): void {
    this.#heard();
    const bytes = Array.isArray(data) ? Buffer.concat(data) : Buffer.isBuffer(data) ? data : Buffer.from(data);
    const message = isBinary ? bytes : bytes.toString("utf8");
    const request = decodeControlRequest(message);
    if (request.kind === "broken") return this.#refuse(request.why);
    if (request.kind === "start") {
      if (this.#operation) return this.#refuse("one operation at a time: another one still runs");
      void this.#run(request.op, request.args);
    } else if (this.#operation) this.#pass(this.#operation, decodeControlData(message, { tty: this.#operation.tty }));
  }

  /** The client and we no longer agree on what runs: only a new connection helps. */
  #refuse(why: string): void {
    const { socket, context } = this.#options;
    socket.close(PROTOCOL_ERROR, why);
    cutOffAfter(context.timings.closeMs, socket, () => socket.terminate());
  }

  async #run(op: string, args: Record<string, unknown>): Promise<void> {
    const { socket, context, caller, spriteName, logger } = this.#options;
    const startedMs = context.clock.monotonicMs();
    this.operations += 1;
    let outcome: string;
    try {
      const place = { socket, context, caller, spriteName, gone: this.#gone.signal, onTaken: () => this.#heard() };
      const operation = new ControlOperation(place, op, args);
      this.#operation = operation;
      outcome = await operation.run();
    } catch (error) {
      const { code, message } = operationError(error);
      outcome = code;
      if (code === "internal") logger.error({ event: "control.operation", err: error }, "an operation failed");
      if (socket.readyState === socket.OPEN) socket.send(encodeControlAnswer({ kind: "error", message }));
    } finally {
      this.#operation = undefined;
      this.#heldBytes = 0;
      if (socket.isPaused) socket.resume();
    }
    const durationMs = Math.round(context.clock.monotonicMs() - startedMs);
    logger.info({ event: "control.operation", op: op.slice(0, 40), sprite: spriteName, outcome, durationMs }, "control operation ended");
  }

  /** Hands data over; while the command does not take it, the socket is not read. */
  #pass(operation: ControlOperation, message: ClientMessage): void {
    const { socket } = this.#options;
    const size = message.kind === "input" ? message.data.length : 0;
    this.#heldBytes += size;
    if (this.#heldBytes > HELD_BYTES_MAX) socket.pause();
    void operation
      .take(message)
      .catch(ignore("the command closed its input or ended: the rest has nowhere to go"))
      .then(() => {
        if (this.#operation !== operation) return;
        this.#heldBytes -= size;
        if (this.#heldBytes <= HELD_BYTES_MAX && socket.isPaused) socket.resume();
      });
  }
}
