/**
 * One request that runs or rejoins a command, as a connection: what `LastingExec` does with a
 * WebSocket it does with this (docs/spec/http-exec.md).
 *
 * Invariants: output is handed over in order, every byte once; `ended` settles exactly once; an
 * answer without frames gives a session without id and positions, which cannot be rejoined.
 */
import { once } from "node:events";
import type { Socket } from "node:net";
import { ConnectionError } from "@sprited/protocol/client/errors";
import type { ExecConnection, ExecHandlers } from "@sprited/protocol/client/exec";
import { ApiError, isErrorCode } from "@sprited/protocol/errors";
import {
  decodeServerMessage,
  HTTP_EXEC_CONTENT_TYPE,
  HttpExecDecoder,
  type HttpExecFrame,
  HttpExecFrameError,
  type SessionInfo,
  sessionInfoOf,
} from "@sprited/protocol/stream";
import { AnswerError, type AnswerPiece, AnswerReader } from "./http-answer.ts";
import type { PostedInput } from "./posted-input.ts";

/** Longest error text that is read, bytes. */
const ERROR_BYTES_MAX = 64 * 1024;
/** Silence after which a server that sends frames counts as lost, ms; it sends something every 15 s. */
const SILENCE_MS = 40_000;

export interface PostedOptions {
  handlers: ExecHandlers;
  /** Undefined: the request has no body. */
  input: PostedInput | undefined;
  /** Offset of the input at which the body begins; undefined: where the server says, so nothing is sent before its first word. */
  bodyFrom: number | undefined;
  /** Called with the answer's head: whether it has frames. */
  answered(isFramed: boolean): void;
  /** Sends a signal to the command. */
  signal(sessionId: string, name: string): void;
  /** What an error stands for that ended the connection. */
  explain(error: unknown, sessionId: string): unknown;
}

export class PostedConnection implements ExecConnection {
  readonly #socket: Socket;
  readonly #options: PostedOptions;
  readonly #reader = new AnswerReader();
  readonly #started = Promise.withResolvers<SessionInfo>();
  readonly #ended = Promise.withResolvers<number>();
  readonly #over = new AbortController();
  #status = 0;
  #errorText = "";
  #info: SessionInfo | undefined;
  /** Undefined: the answer has the official framing. */
  #frames: HttpExecDecoder | undefined;
  /** Why the outcome is not known; an exit follows. */
  #error: ApiError | undefined;
  #lastHeardMs = performance.now();

  /** `socket`: connected, nothing sent. */
  constructor(socket: Socket, options: PostedOptions) {
    this.#socket = socket;
    this.#options = options;
    // Whoever waits for the one hears of a failure; the other must not count as unhandled.
    void Promise.allSettled([this.#started.promise, this.#ended.promise]);
    socket.on("data", (bytes: Uint8Array) => this.#hear(() => this.#reader.push(bytes)));
    socket.on("end", () => this.#bodyEnded());
    socket.on("close", () => this.#lose(new ConnectionError("closed", "the connection was lost before the command ended")));
    socket.on("error", (cause) => this.#lose(new ConnectionError("closed", "the connection was lost before the command ended", { cause })));
  }

  get info(): SessionInfo {
    if (!this.#info) throw new Error("the session is not open yet");
    return this.#info;
  }

  get ended(): Promise<number> {
    return this.#ended.promise;
  }

  /** Sends the request with the input, and waits for the session's first word. Without `timeoutMs` for as long as it takes: a server may answer with the first output. */
  async request(head: string, options: { signal?: AbortSignal; timeoutMs?: number }): Promise<void> {
    this.#socket.write(head);
    if (this.#options.bodyFrom !== undefined) void this.#sendInput(this.#options.bodyFrom);
    const { signal, timeoutMs } = options;
    const timer =
      timeoutMs === undefined
        ? undefined
        : setTimeout(
            () => this.#lose(new ConnectionError("timeout", `the sprite did not answer within ${Math.round(timeoutMs / 1000)} s`)),
            timeoutMs,
          );
    const onAbort = (): void => this.#lose(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    if (signal?.aborted) onAbort();
    try {
      await this.#started.promise;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
    if (this.#frames) this.#watchSilence();
  }

  /** Without effect, as `endInput`: the input goes with the request. */
  async write(): Promise<void> {}

  endInput(): void {}

  /** Without effect: there is no terminal. */
  resize(): void {}

  signal(name: string): void {
    if (this.#info?.session_id) this.#options.signal(this.#info.session_id, name);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#lastHeardMs = performance.now();
    this.#socket.resume();
  }

  detach(): void {
    this.#lose(new ConnectionError("closed", "left the session"));
  }

  async #sendInput(from: number): Promise<void> {
    const { input } = this.#options;
    const socket = this.#socket;
    const { signal } = this.#over;
    try {
      const send = async (piece: Uint8Array): Promise<void> => {
        socket.write(`${piece.length.toString(16)}\r\n`);
        socket.write(piece);
        if (!socket.write("\r\n")) await once(socket, "drain", { signal });
      };
      const isWhole = await input?.sendTo({ from, send }, signal);
      if (isWhole && socket.writable) socket.write("0\r\n\r\n");
    } catch {
      // The connection ended, the server takes no more, or it has less than is kept: the answer says what happened.
    }
  }

  #watchSilence(): void {
    const timer = setInterval(() => {
      if (this.#socket.isPaused()) this.#lastHeardMs = performance.now(); // we hold the server back ourselves
      if (performance.now() - this.#lastHeardMs > SILENCE_MS)
        this.#lose(new ConnectionError("timeout", `nothing from the server for ${SILENCE_MS / 1000} s`));
    }, SILENCE_MS / 4);
    const stop = (): void => clearInterval(timer);
    if (this.#over.signal.aborted) stop();
    else this.#over.signal.addEventListener("abort", stop, { once: true });
  }

  #hear(read: () => AnswerPiece[]): void {
    this.#lastHeardMs = performance.now();
    try {
      for (const piece of read()) {
        if (this.#over.signal.aborted) return;
        this.#take(piece);
      }
    } catch (cause) {
      const isGarbage = cause instanceof AnswerError || cause instanceof HttpExecFrameError;
      this.#lose(isGarbage ? new ConnectionError("bad_answer", cause.message, { cause }) : cause);
    }
  }

  /** The server sends no more: the end of a body without length, or a cut. */
  #bodyEnded(): void {
    this.#hear(() => {
      try {
        return this.#reader.end();
      } catch {
        return []; // cut in the middle: as good as a lost connection
      }
    });
    this.#lose(new ConnectionError("closed", "the answer ended before the command did"));
  }

  #take(piece: AnswerPiece): void {
    if (piece.kind === "head") this.#head(piece);
    else if (this.#status !== 200) this.#refused(piece);
    else if (piece.kind === "end") this.#lose(new ConnectionError("closed", "the answer ended before the command did"));
    else if (this.#frames) for (const frame of this.#frames.push(piece.data)) this.#frame(frame);
    else this.#official(piece.data);
  }

  #head({ status, headers }: Extract<AnswerPiece, { kind: "head" }>): void {
    this.#status = status;
    if (status !== 200) return;
    const isFramed = headers.get("content-type")?.split(";")[0]?.trim().toLowerCase() === HTTP_EXEC_CONTENT_TYPE;
    this.#options.answered(isFramed);
    if (isFramed) this.#frames = new HttpExecDecoder();
    else this.#start(sessionInfoOf({}));
  }

  #start(info: SessionInfo): void {
    if (this.#info) return;
    this.#info = info;
    this.#options.handlers.started?.(info);
    this.#started.resolve(info);
    if (this.#options.bodyFrom === undefined) void this.#sendInput(info.input_offset ?? 0);
  }

  #frame(frame: HttpExecFrame): void {
    const { handlers, input } = this.#options;
    if (this.#over.signal.aborted) return;
    switch (frame.kind) {
      case "session_info":
        return this.#start(sessionInfoOf(frame.info));
      case "output":
        return handlers.output(frame.stream, frame.data);
      case "gap":
        return handlers.gap?.(frame.from, frame.to);
      case "input_ack":
        input?.acknowledge(frame.offset);
        return handlers.inputAck?.(frame.offset);
      case "error":
        this.#error = new ApiError(isErrorCode(frame.error) ? frame.error : "internal", frame.message);
        return;
      case "exit":
        return this.#error ? this.#lose(this.#error) : this.#end(frame.code);
      case "keep_alive":
    }
  }

  #official(data: Uint8Array): void {
    const message = decodeServerMessage(data, { tty: false });
    if (message.kind === "exit") this.#end(message.code);
    else if (message.kind === "output") this.#options.handlers.output(message.stream, message.data);
    else if (data.length > 0)
      this.#lose(new ConnectionError("bad_answer", "a proxy cut the answer into other pieces; leave out --http-post"));
  }

  #refused(piece: AnswerPiece): void {
    if (piece.kind === "chunk" && this.#errorText.length < ERROR_BYTES_MAX) this.#errorText += Buffer.from(piece.data).toString("utf8");
    if (piece.kind === "end") this.#lose(ApiError.fromAnswer(this.#status, this.#errorText));
  }

  #end(code: number): void {
    if (this.#over.signal.aborted) return;
    this.#settle();
    this.#ended.resolve(code);
  }

  #lose(error: unknown): void {
    if (this.#over.signal.aborted) return;
    this.#settle();
    const explained = this.#options.explain(error, this.#info?.session_id ?? "");
    this.#started.reject(explained);
    this.#ended.reject(explained);
  }

  #settle(): void {
    this.#over.abort();
    this.#socket.destroy();
  }
}
