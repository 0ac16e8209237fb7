/**
 * One operation of a control connection: a command from its request to its outcome. Output has
 * the frames of exec over a WebSocket; the outcome comes last, in the envelope.
 *
 * Invariants: what the client sends reaches the command in order, also what came before it was
 * started; the outcome is sent after the last output byte; nothing is sent once the client left.
 */
import { ignore, withDeadline } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import { type ClientMessage, encodeControlAnswer, encodeExit, encodeFrame, exitByte, StreamId } from "@sprited/protocol/stream";
import type WebSocket from "ws";
import { z } from "zod";
import type { Attachment, ExecSession, LogPiece, SessionEnd } from "../../exec/exec.ts";
import type { Caller } from "../../organization/index.ts";
import { toApiError } from "../error-map.ts";
import { type ExecQuery, execRequest } from "../exec-request.ts";
import type { ApiContext } from "../handler.ts";
import { sessionInfo } from "../session-info.ts";
import { lostText } from "./lost.ts";

/** Largest message we send, bytes. */
const MESSAGE_BYTES_MAX = 64 * 1024;
/** Unsent bytes at which output waits for the client. */
const BUFFER_BYTES_MAX = 1024 * 1024;

/** Clients send numbers and booleans as text. */
const extent = z.coerce.number().int().min(0).max(65_535).optional();
const flag = z.union([z.boolean(), z.enum(["true", "false"]).transform((text) => text === "true")]).optional();
const execArgs = z.object({
  cmd: z.array(z.string()).optional(),
  path: z.string().optional(),
  env: z.array(z.string()).optional(),
  dir: z.string().optional(),
  tty: flag,
  rows: extent,
  cols: extent,
  stdin: flag,
});

export interface OperationPlace {
  socket: WebSocket;
  context: ApiContext;
  caller: Caller;
  spriteName: string;
  /** Aborts when the client is gone. */
  gone: AbortSignal;
  /** Output that had waited for the client went out: it reads. */
  onTaken(): void;
}

export class ControlOperation {
  /** Whether output and input are those of a terminal. */
  readonly tty: boolean;
  readonly #place: OperationPlace;
  readonly #query: ExecQuery & { stdin: boolean };
  readonly #started = Promise.withResolvers<{ session: ExecSession; attachment: Attachment }>();
  /** The last message taken; the next one waits for it. */
  #last: Promise<void> = Promise.resolve();
  #inputOpen: boolean;
  #attachment: Attachment | undefined;

  /** Throws `ApiError` for an operation that is not offered or whose arguments are wrong. */
  constructor(place: OperationPlace, op: string, args: Record<string, unknown>) {
    if (op !== "exec") throw new ApiError("not_available_yet", "this server offers only exec over a control connection");
    const read = execArgs.safeParse(args);
    if (!read.success) throw new ApiError("exec_invalid", "the arguments of exec are malformed");
    this.#place = place;
    this.#query = { ...read.data, stdin: read.data.stdin ?? true };
    this.tty = read.data.tty ?? false;
    this.#inputOpen = this.#query.stdin;
    this.#started.promise.catch(ignore("told by run; messages that waited for it go nowhere"));
  }

  /** Runs the command to its end and says so; what it came to. Throws `ApiError` when it did not begin. */
  async run(): Promise<"exit" | "lost" | "client_gone"> {
    const { socket, gone } = this.#place;
    try {
      const started = await this.#start();
      this.#started.resolve(started);
      const { session, attachment } = started;
      await this.#send(JSON.stringify(sessionInfo(session, { isOwner: true })));
      for await (const piece of attachment.output) {
        for (const message of messagesOf(piece, this.tty)) await this.#send(message);
        if (gone.aborted) return "client_gone";
      }
      if (gone.aborted || socket.readyState !== socket.OPEN) return "client_gone";
      const end = await attachment.ended;
      await this.#tell(end);
      return end.kind;
    } catch (error) {
      this.#started.reject(error);
      if (gone.aborted) return "client_gone";
      throw error;
    } finally {
      this.leave();
    }
  }

  /** Hands a message of the client to the command; resolves when more may come. */
  async take(message: ClientMessage): Promise<void> {
    const before = this.#last;
    const now = before.then(async () => await this.#deliver(message));
    this.#last = now.catch(ignore("the caller hears of it; the next message is tried by itself"));
    await now;
  }

  /** Gives the command up to its run-on time. */
  leave(): void {
    this.#attachment?.close();
  }

  async #start(): Promise<{ session: ExecSession; attachment: Attachment }> {
    const { context, caller, spriteName, gone } = this.#place;
    const asked = execRequest(this.#query);
    return await withDeadline("starting the command", { timeoutMs: context.timings.execStartMs, signal: gone }, async (signal) => {
      const session = await context.features.exec.start(caller.organizationId, spriteName, asked, { signal });
      const attachment = session.attach({ from: "start" });
      this.#attachment = attachment;
      if (signal.aborted) attachment.close();
      return { session, attachment };
    });
  }

  async #deliver(message: ClientMessage): Promise<void> {
    const { session, attachment } = await this.#started.promise;
    switch (message.kind) {
      case "input":
        if (this.#inputOpen) await attachment.write(message.data);
        return;
      case "input_end":
        if (this.#inputOpen) attachment.endInput();
        this.#inputOpen = false;
        return;
      case "resize":
        if (session.tty) attachment.resize({ cols: message.cols, rows: message.rows });
        return;
      case "signal":
        session.signal(message.signal);
        return;
      case "ignored":
    }
  }

  /** The outcome: in the command's own frames, then in the envelope. */
  async #tell(end: SessionEnd): Promise<void> {
    if (end.kind === "lost") {
      const line = Buffer.from(lostText(end, { tty: this.tty }));
      await this.#send(this.tty ? line : encodeFrame(StreamId.stderr, line));
      return await this.#send(encodeControlAnswer({ kind: "error", message: end.reason }));
    }
    const code = exitByte(end.exit);
    await this.#send(this.tty ? JSON.stringify({ type: "exit", exit_code: code, code }) : encodeExit(code));
    await this.#send(encodeControlAnswer({ kind: "complete", exitCode: code }));
  }

  /** Waits for the transport only when it is behind. */
  async #send(message: string | Uint8Array): Promise<void> {
    const { socket, onTaken } = this.#place;
    if (socket.readyState !== socket.OPEN) return;
    const binary = typeof message !== "string";
    if (socket.bufferedAmount < BUFFER_BYTES_MAX) return socket.send(message, { binary }, () => {});
    await new Promise<void>((resolve) =>
      socket.send(message, { binary }, (error) => {
        if (!error) onTaken();
        resolve();
      }),
    );
  }
}

/** The code and the public message of whatever ended an operation. */
export function operationError(error: unknown): { code: string; message: string } {
  const { code, message } = toApiError(error);
  return { code, message: `${code}: ${message}` };
}

function* messagesOf(piece: LogPiece, tty: boolean): Generator<Uint8Array> {
  if (piece.kind === "gap") {
    const line = Buffer.from(`sprited: ${piece.bytes} bytes of output are missing here\n`);
    yield tty ? line : encodeFrame(StreamId.stderr, line);
    return;
  }
  const room = tty ? MESSAGE_BYTES_MAX : MESSAGE_BYTES_MAX - 1;
  for (let at = 0; at < piece.data.length; at += room) {
    const part = piece.data.subarray(at, at + room);
    yield tty ? part : encodeFrame(piece.stream === "stdout" ? StreamId.stdout : StreamId.stderr, part);
  }
}
