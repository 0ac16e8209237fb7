/**
 * Runs a command by one HTTP request, for networks without WebSockets (CLI-28).
 *
 * The request is written to the socket directly, because the borders of the answer's chunks count
 * (`http-answer.ts`). Input streams along while the command runs.
 */
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { once } from "node:events";
import { ConnectionError } from "@sprited/protocol/client/errors";
import { execUrl } from "@sprited/protocol/client/exec";
import { ApiError } from "@sprited/protocol/errors";
import { decodeServerMessage } from "@sprited/protocol/stream";
import type { Target } from "../settings/load.ts";
import { AnswerError, type AnswerPiece, AnswerReader } from "./http-answer.ts";
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
export async function runCommandByPost(target: Target, command: Command): Promise<number> {
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
    return await Promise.race([readAnswer(socket, sink), leaving.promise]);
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

async function readAnswer(socket: Socket, sink: OutputSink): Promise<number> {
  const reader = new AnswerReader();
  const answer = new Answer(sink);
  try {
    for await (const bytes of socket) {
      for (const piece of reader.push(bytes as Uint8Array)) {
        const code = answer.take(piece);
        if (code !== undefined) return code;
        await sink.room();
      }
    }
    for (const piece of reader.end()) answer.take(piece);
  } catch (cause) {
    if (cause instanceof AnswerError) throw new ConnectionError("bad_answer", cause.message, { cause });
    if (cause instanceof ConnectionError || ApiError.is(cause)) throw cause;
    throw new ConnectionError("closed", "the connection was lost before the command ended", { cause });
  }
  throw new ConnectionError("closed", "the answer ended before the command did");
}

/** What the pieces of the answer mean. */
class Answer {
  readonly #sink: OutputSink;
  #status = 0;
  #errorText = "";

  constructor(sink: OutputSink) {
    this.#sink = sink;
  }

  /** Takes a piece; the exit code when it is the last. Throws `ApiError`, `ConnectionError`. */
  take(piece: AnswerPiece): number | undefined {
    if (piece.kind === "head") this.#status = piece.status;
    else if (this.#status !== 200) this.#refused(piece);
    else if (piece.kind === "chunk") return this.#frame(piece.data);
    return undefined;
  }

  #frame(data: Uint8Array): number | undefined {
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
