/**
 * Runs a command by one HTTP request, for networks without WebSockets (CLI-28).
 *
 * It asks for the answer with real frames and takes the official one from servers that do not know
 * those. There the borders of chunks count (`http-answer.ts`), so the request is written to the
 * socket directly. Input streams along while the command runs.
 */
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { once } from "node:events";
import { ConnectionError } from "@sprited/protocol/client/errors";
import { execUrl } from "@sprited/protocol/client/exec";
import { ApiError, isErrorCode } from "@sprited/protocol/errors";
import {
  decodeServerMessage,
  HTTP_EXEC_CONTENT_TYPE,
  HttpExecDecoder,
  type HttpExecFrame,
  HttpExecFrameError,
} from "@sprited/protocol/stream";
import { printable } from "../output/text-width.ts";
import type { Target } from "../settings/load.ts";
import { AnswerError, type AnswerPiece, AnswerReader } from "./http-answer.ts";
import { gapMessage } from "./messages.ts";
import type { Command } from "./run-command.ts";
import { onSignals, signalExitCode } from "./signals.ts";
import { OutputSink } from "./stdio.ts";

/** Connecting, with the TLS handshake, ms. */
const CONNECT_TIMEOUT_MS = 30_000;
/** Longest error text that is read, bytes. */
const ERROR_BYTES_MAX = 64 * 1024;
/** Pause between TCP keep-alive probes, ms. */
const KEEP_ALIVE_MS = 15_000;

/** Resolves with the exit code. Throws `ApiError`, `ConnectionError`. */
export async function runCommandByPost(target: Target, command: Command, options: { verbose?: boolean | undefined } = {}): Promise<number> {
  const leaving = Promise.withResolvers<number>();
  const sink = new OutputSink(() => leaving.resolve(signalExitCode("SIGPIPE")));
  const stopListening = onSignals((name) => leaving.resolve(signalExitCode(name)));
  // Input of a terminal would have to be typed before anything happens: it counts as none.
  const hasInput = command.stdin && !process.stdin.isTTY;
  const url = postUrl(target, command, hasInput);
  let socket: Socket | undefined;
  try {
    socket = await Promise.race([connect(url, target.server.apiUrl), leaving.promise.then(() => undefined)]);
    if (!socket) return await leaving.promise;
    socket.write(requestHead(url, target.server.token, hasInput));
    if (hasInput) void sendInput(socket);
    return await Promise.race([readAnswer(socket, new Answer(sink, options)), leaving.promise]);
  } finally {
    stopListening();
    socket?.destroy();
  }
}

function postUrl(target: Target, command: Command, stdin: boolean): URL {
  const url = new URL(
    execUrl({ baseUrl: target.server.apiUrl, sprite: target.sprite }, { kind: "command", ...command, stdin }).replace(/^ws/, "http"),
  );
  if (!stdin) url.searchParams.delete("stdin"); // over HTTP it is sent only when there is input
  return url;
}

/** Head of the request. The URL is encoded and the token checked, so neither can add a line. */
function requestHead(url: URL, token: string, hasInput: boolean): string {
  return [
    `POST ${url.pathname}${url.search} HTTP/1.1`,
    `Host: ${url.host}`,
    `Authorization: Bearer ${token}`,
    `Accept: ${HTTP_EXEC_CONTENT_TYPE}, application/octet-stream;q=0.9`,
    "Content-Type: application/octet-stream",
    hasInput ? "Transfer-Encoding: chunked" : "Content-Length: 0",
    "Connection: close",
    "\r\n",
  ].join("\r\n");
}

async function connect(url: URL, apiUrl: string): Promise<Socket> {
  const isTls = url.protocol === "https:";
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const port = Number(url.port || (isTls ? 443 : 80));
  const socket = isTls ? connectTls({ host, port, servername: host, ALPNProtocols: ["http/1.1"] }) : connectTcp({ host, port });
  socket.setNoDelay(true);
  socket.setKeepAlive(true, KEEP_ALIVE_MS);
  try {
    await once(socket, isTls ? "secureConnect" : "connect", { signal: AbortSignal.timeout(CONNECT_TIMEOUT_MS) });
    return socket;
  } catch (cause) {
    socket.destroy();
    throw new ConnectionError("unreachable", `cannot reach ${apiUrl}`, { cause });
  }
}

async function sendInput(socket: Socket): Promise<void> {
  socket.on("error", () => {}); // the answer says what happened
  try {
    for await (const chunk of process.stdin) {
      const data = chunk as Uint8Array;
      if (data.length === 0) continue;
      socket.write(`${data.length.toString(16)}\r\n`);
      socket.write(data);
      if (!socket.write("\r\n")) await once(socket, "drain");
    }
  } catch {
    // Standard input cannot be read, or the server takes no more: it counts as ended.
  }
  if (socket.writable) socket.write("0\r\n\r\n");
}

async function readAnswer(socket: Socket, answer: Answer): Promise<number> {
  const reader = new AnswerReader();
  try {
    for await (const bytes of socket) {
      for (const piece of reader.push(bytes as Uint8Array)) {
        const code = answer.take(piece);
        if (code !== undefined) return code;
        await answer.room();
      }
    }
    for (const piece of reader.end()) answer.take(piece);
  } catch (cause) {
    if (cause instanceof AnswerError || cause instanceof HttpExecFrameError)
      throw new ConnectionError("bad_answer", cause.message, { cause });
    if (cause instanceof ConnectionError || ApiError.is(cause)) throw cause;
    throw new ConnectionError("closed", "the connection was lost before the command ended", { cause });
  }
  throw new ConnectionError("closed", "the answer ended before the command did");
}

/** What the pieces of the answer mean. */
class Answer {
  readonly #sink: OutputSink;
  readonly #verbose: boolean;
  #status = 0;
  #errorText = "";
  /** Undefined: the answer has the official framing. */
  #frames: HttpExecDecoder | undefined;
  #lost: ApiError | undefined;

  constructor(sink: OutputSink, options: { verbose?: boolean | undefined }) {
    this.#sink = sink;
    this.#verbose = options.verbose ?? false;
  }

  /** Waits while the output is full. */
  async room(): Promise<void> {
    await this.#sink.room();
  }

  /** Takes a piece; the exit code when it is the last. Throws `ApiError`, `ConnectionError`, `HttpExecFrameError`. */
  take(piece: AnswerPiece): number | undefined {
    if (piece.kind === "head") this.#head(piece);
    else if (this.#status !== 200) this.#refused(piece);
    else if (piece.kind === "chunk") return this.#frames ? this.#framed(this.#frames.push(piece.data)) : this.#official(piece.data);
    return undefined;
  }

  #head({ status, headers }: Extract<AnswerPiece, { kind: "head" }>): void {
    this.#status = status;
    if (headers.get("content-type")?.split(";")[0]?.trim().toLowerCase() === HTTP_EXEC_CONTENT_TYPE) this.#frames = new HttpExecDecoder();
    if (this.#verbose && status === 200)
      process.stderr.write(`sprite: the server answers ${this.#frames ? "in frames" : "in the official framing, without lengths"}\n`);
  }

  #framed(frames: readonly HttpExecFrame[]): number | undefined {
    for (const frame of frames) {
      if (frame.kind === "output") this.#sink.write(frame.stream, frame.data);
      else if (frame.kind === "error") this.#lost = new ApiError(isErrorCode(frame.error) ? frame.error : "internal", frame.message);
      else if (frame.kind === "gap") process.stderr.write(`${gapMessage(frame.to - frame.from)}\n`);
      else if (frame.kind === "session_info" && this.#verbose)
        process.stderr.write(`sprite: session ${printable(frame.info.session_id)}\n`);
      else if (frame.kind === "exit") {
        if (this.#lost) throw this.#lost;
        return frame.code;
      }
    }
    return undefined;
  }

  #official(data: Uint8Array): number | undefined {
    const message = decodeServerMessage(data, { tty: false });
    if (message.kind === "exit") return message.code;
    if (message.kind === "output") this.#sink.write(message.stream, message.data);
    else if (data.length > 0) throw new ConnectionError("bad_answer", "a proxy cut the answer into other pieces; leave out --http-post");
    return undefined;
  }

  #refused(piece: AnswerPiece): void {
    if (piece.kind === "chunk" && this.#errorText.length < ERROR_BYTES_MAX) this.#errorText += Buffer.from(piece.data).toString("utf8");
    if (piece.kind === "end") throw ApiError.fromAnswer(this.#status, this.#errorText);
  }
}
