/**
 * An exec WebSocket seen raw: every message in order, the head of the 101 answer, the close code.
 * What the official clients hide, and what those of other languages depend on.
 */
import type { IncomingHttpHeaders } from "node:http";
import { waitFor } from "@sprited/base";
import { WebSocket } from "ws";
import type { Target } from "./target.ts";

/** Longest wait for a handshake, ms; waking a sprite is part of it. */
const HANDSHAKE_TIMEOUT_MS = 120_000;

/** Input of `execRaw` in one message, bytes; servers take at least 16 MiB. */
const INPUT_MESSAGE_BYTES = 8 * 1024 * 1024;

export type Message = { kind: "text"; text: string } | { kind: "binary"; data: Buffer };

/** A handshake that was answered with something else than 101. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  constructor(status: number, headers: IncomingHttpHeaders, body: string) {
    super(`handshake answered ${status}: ${body.slice(0, 300)}`);
    this.status = status;
    this.headers = headers;
    this.body = body;
  }
  /** `error` of the JSON body; undefined when it is none. */
  get code(): unknown {
    try {
      return (JSON.parse(this.body) as { error?: unknown }).error;
    } catch {
      return undefined;
    }
  }
}

export interface ExecQuery {
  cmd?: string[];
  env?: string[];
  [parameter: string]: string | string[] | undefined;
}

/** `key=value&…` in the order given; lists repeat their key; a space becomes `+`. */
export function queryText(query: ExecQuery): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const item of Array.isArray(value) ? value : value === undefined ? [] : [value]) parameters.append(name, item);
  }
  return parameters.toString();
}

export class ExecSocket {
  readonly messages: Message[] = [];
  /** Head of the 101 answer. */
  headers: IncomingHttpHeaders = {};
  /** Set when the server closed; 1006 without a closing handshake. */
  closeCode: number | undefined;
  /** Takes stdout instead of `messages`, for output too large to keep. */
  onOutput: ((data: Buffer) => void) | undefined;
  readonly socket: WebSocket;

  private constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on("message", (data: Buffer, isBinary) => {
      if (isBinary && this.onOutput && data[0] === 1) return this.onOutput(data.subarray(1));
      this.messages.push(isBinary ? { kind: "binary", data: Buffer.from(data) } : { kind: "text", text: data.toString("utf8") });
    });
    socket.on("close", (code) => {
      this.closeCode = code;
    });
    socket.on("error", () => {}); // the close code tells
  }

  /** Opens `/v1/sprites/{name}/exec{rest}`; throws `RefusedError`. */
  static async open(
    target: Target,
    name: string,
    rest: string | ExecQuery,
    options: { token?: string; headers?: Record<string, string> } = {},
  ): Promise<ExecSocket> {
    const tail = typeof rest === "string" ? rest : `?${queryText(rest)}`;
    return await ExecSocket.openPath(target, `/v1/sprites/${name}/exec${tail}`, options);
  }

  static async openPath(
    target: Target,
    path: string,
    options: { token?: string; headers?: Record<string, string> } = {},
  ): Promise<ExecSocket> {
    const socket = new WebSocket(`${target.baseUrl.replace(/^http/, "ws")}${path}`, {
      headers: { authorization: `Bearer ${options.token ?? target.token}`, ...options.headers },
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      maxPayload: 0,
      perMessageDeflate: false,
    });
    const exec = new ExecSocket(socket);
    return await new Promise((resolve, reject) => {
      socket.on("upgrade", (response) => {
        exec.headers = response.headers;
      });
      socket.on("open", () => resolve(exec));
      socket.on("error", reject);
      socket.on("unexpected-response", (_request, response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () =>
          reject(new RefusedError(response.statusCode ?? 0, response.headers, Buffer.concat(chunks).toString("utf8"))),
        );
      });
    });
  }

  /** Text messages parsed as JSON. */
  get jsonMessages(): Record<string, unknown>[] {
    return this.messages.flatMap((message) => (message.kind === "text" ? [JSON.parse(message.text) as Record<string, unknown>] : []));
  }

  get sessionId(): string {
    return String(this.jsonMessages.find((message) => message["type"] === "session_info")?.["session_id"]);
  }

  /** All payloads of one stream id (without a terminal). */
  stream(id: number): Buffer {
    return Buffer.concat(
      this.messages.flatMap((message) => (message.kind === "binary" && message.data[0] === id ? [message.data.subarray(1)] : [])),
    );
  }

  /** All binary bytes (with a terminal). */
  get terminal(): string {
    return Buffer.concat(this.messages.flatMap((message) => (message.kind === "binary" ? [message.data] : []))).toString("utf8");
  }

  /** Payload of the exit frame; undefined before it came. */
  get exitPayload(): Buffer | undefined {
    const frame = this.messages.find((message) => message.kind === "binary" && message.data[0] === 3);
    return frame?.kind === "binary" ? frame.data.subarray(1) : undefined;
  }

  sendInput(data: string | Uint8Array): void {
    this.socket.send(Buffer.concat([Buffer.from([0]), Buffer.from(data as Uint8Array)]));
  }

  sendInputEnd(): void {
    this.socket.send(Buffer.from([4]));
  }

  sendJson(message: unknown): void {
    this.socket.send(JSON.stringify(message));
  }

  async until(what: string, probe: () => boolean, timeoutMs = 60_000): Promise<void> {
    await waitFor(`${what}; got ${this.#summary()}`, { timeoutMs, everyMs: 5 }, probe);
  }

  /** Waits for the server's end of the socket and returns the close code. */
  async end(timeoutMs = 60_000): Promise<number> {
    await waitFor("the end of the exec socket", { timeoutMs, everyMs: 5 }, () => this.closeCode !== undefined);
    return this.closeCode ?? 0;
  }

  /** Ends the TCP connection without a closing handshake, as the Go client does. */
  drop(): void {
    this.socket.terminate();
  }

  #summary(): string {
    return JSON.stringify(
      this.messages
        .slice(-3)
        .map((message) => (message.kind === "text" ? message.text.slice(0, 200) : message.data.toString("latin1").slice(0, 200))),
    );
  }
}

/** Runs a command without a terminal to its end. */
export async function execRaw(
  target: Target,
  name: string,
  query: ExecQuery,
  input?: string | Uint8Array,
): Promise<{ code: number | undefined; stdout: Buffer; stderr: Buffer; closeCode: number }> {
  const exec = await ExecSocket.open(target, name, { ...query, stdin: input === undefined ? "false" : "true" });
  if (input !== undefined) {
    const bytes = Buffer.from(input as Uint8Array);
    for (let at = 0; at < bytes.length; at += INPUT_MESSAGE_BYTES) exec.sendInput(bytes.subarray(at, at + INPUT_MESSAGE_BYTES));
    exec.sendInputEnd();
  }
  const closeCode = await exec.end();
  return { code: exec.exitPayload?.[0], stdout: exec.stream(1), stderr: exec.stream(2), closeCode };
}
