/**
 * Runs a command by plain HTTP requests, for networks without WebSockets (CLI-28).
 *
 * It asks for the answer with real frames and takes the official one from servers that do not know
 * those. There the borders of chunks count (`http-answer.ts`), so the request is written to the
 * socket directly. Input streams along while the command runs. A server with frames counts, so
 * that a lost connection is taken up by another request (HTTP-10 to HTTP-12).
 */
import { once } from "node:events";
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { ConnectionError } from "@sprited/protocol/client/errors";
import { type ExecConnection, type ExecHandlers, type ExecTarget, execUrl, type ExecWhat } from "@sprited/protocol/client/exec";
import { HTTP_EXEC_CONTENT_TYPE } from "@sprited/protocol/stream";
import { printable } from "../output/text-width.ts";
import type { Target } from "../settings/load.ts";
import { PostedConnection } from "./http-connection.ts";
import { inputGone } from "./messages.ts";
import { PostedInput } from "./posted-input.ts";
import { type Command, runCommand, type Transport } from "./run-command.ts";

/** Connecting, with the TLS handshake, ms. */
const CONNECT_TIMEOUT_MS = 30_000;
/** Pause between TCP keep-alive probes, ms. */
const KEEP_ALIVE_MS = 15_000;
/** Sending a signal, ms. */
const SIGNAL_TIMEOUT_MS = 5_000;

export interface PostOptions {
  /** How long a lost connection is tried again, ms; as long the command runs on without us. */
  reconnectForMs: number;
  verbose?: boolean | undefined;
}

/** Resolves with the exit code. Throws `ApiError`, `ConnectionError`, `CliError`. */
export async function runCommandByPost(target: Target, command: Command, options: PostOptions): Promise<number> {
  const { reconnectForMs, verbose = false } = options;
  // Input of a terminal would have to be typed before anything happens: it counts as none.
  const stdin = command.stdin && !process.stdin.isTTY;
  const input = stdin ? new PostedInput(process.stdin, { isKept: reconnectForMs > 0 }) : undefined;
  const posts = new Posts(target, input, verbose);
  try {
    return await runCommand(target, { ...command, stdin }, { reconnectForMs, transport: posts });
  } finally {
    await posts.signalsSent();
  }
}

/** The requests of one command. */
class Posts implements Transport {
  readonly #target: Target;
  readonly #input: PostedInput | undefined;
  readonly #verbose: boolean;
  #signals: Promise<void> = Promise.resolve();
  /** Undefined until there was an answer. */
  #isFramed: boolean | undefined;
  /** Something between passes requests on only when they are whole: nothing is answered before. */
  #isHeldUp = false;

  constructor(target: Target, input: PostedInput | undefined, verbose: boolean) {
    this.#target = target;
    this.#input = input;
    this.#verbose = verbose;
  }

  get takesSignals(): boolean {
    return this.#isFramed ?? false;
  }

  /** Resolves when every signal has reached the server, or cannot. */
  async signalsSent(): Promise<void> {
    await this.#signals;
  }

  readonly open = async (
    at: ExecTarget,
    what: ExecWhat,
    handlers: ExecHandlers,
    options: { signal?: AbortSignal; timeoutMs?: number } = {},
  ): Promise<ExecConnection> => {
    // A server that is asked again is one that counts: it says where the input goes on.
    const isAgain = what.kind === "attach" || what.isRepeated === true;
    const waits = isAgain && !this.#isHeldUp;
    const bodyFrom = waits ? undefined : this.#input?.offset;
    const url = this.#urlOf(at, what, bodyFrom);
    const socket = await connect(url, at.baseUrl, options);
    const isFirst = this.#isFramed === undefined;
    const connection = new PostedConnection(socket, {
      handlers,
      input: this.#input,
      bodyFrom,
      answered: (isFramed) => this.#answered(isFramed),
      signal: (sessionId, name) => this.#signal(sessionId, name),
      explain: (error, sessionId) =>
        error instanceof ConnectionError && this.#input?.isGivenUp ? inputGone(error, this.#target.sprite, sessionId) : error,
    });
    await connection.request(requestHead(url, at.token, this.#input !== undefined), options).catch((error: unknown) => {
      if (isAgain && error instanceof ConnectionError && error.code === "timeout") this.#isHeldUp = waits;
      throw error;
    });
    const { session_id: sessionId } = connection.info;
    if (isFirst && sessionId !== "") this.#say(`session ${printable(sessionId)}`);
    return connection;
  };

  #urlOf(at: ExecTarget, what: ExecWhat, bodyFrom: number | undefined): URL {
    const url = new URL(execUrl(at, what).replace(/^ws/, "http"));
    if (!this.#input) url.searchParams.delete("stdin"); // over HTTP it is sent only when there is input
    else if (what.resumeAs !== undefined && bodyFrom !== undefined) url.searchParams.set("input_offset", String(bodyFrom));
    return url;
  }

  #answered(isFramed: boolean): void {
    this.#input?.learn(isFramed ? "counts" : "does not count");
    if (this.#isFramed !== undefined) return;
    this.#isFramed = isFramed;
    this.#say(`the server answers ${isFramed ? "in frames" : "in the official framing, without lengths"}`);
  }

  #say(line: string): void {
    if (this.#verbose) process.stderr.write(`sprite: ${line}\n`);
  }

  #signal(sessionId: string, name: string): void {
    const { sprite, server } = this.#target;
    const base = `${server.apiUrl.replace(/\/+$/, "")}/v1/sprites/${encodeURIComponent(sprite)}/exec/${encodeURIComponent(sessionId)}`;
    this.#signals = this.#signals.then(async () => {
      try {
        const headers = { authorization: `Bearer ${server.token}` };
        const signal = AbortSignal.timeout(SIGNAL_TIMEOUT_MS);
        const answer = await fetch(`${base}/kill?signal=${encodeURIComponent(name)}&timeout=0s`, { method: "POST", headers, signal });
        await answer.text();
      } catch {
        // As a signal that is lost with a WebSocket: the next one leaves.
      }
    });
  }
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

async function connect(url: URL, apiUrl: string, options: { signal?: AbortSignal; timeoutMs?: number }): Promise<Socket> {
  const isTls = url.protocol === "https:";
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const port = Number(url.port || (isTls ? 443 : 80));
  const socket = isTls ? connectTls({ host, port, servername: host, ALPNProtocols: ["http/1.1"] }) : connectTcp({ host, port });
  socket.setNoDelay(true);
  socket.setKeepAlive(true, KEEP_ALIVE_MS);
  const timeout = AbortSignal.timeout(Math.ceil(Math.min(options.timeoutMs ?? CONNECT_TIMEOUT_MS, CONNECT_TIMEOUT_MS)));
  try {
    await once(socket, isTls ? "secureConnect" : "connect", {
      signal: AbortSignal.any([timeout, ...(options.signal ? [options.signal] : [])]),
    });
    return socket;
  } catch (cause) {
    socket.destroy();
    throw new ConnectionError("unreachable", `cannot reach ${apiUrl}`, { cause });
  }
}
