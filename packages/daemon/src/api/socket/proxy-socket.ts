/**
 * One client's WebSocket on one TCP connection into a sprite (docs/spec/ports.md).
 *
 * Invariants: bytes go both ways in order and each once; whoever is slow holds the other side
 * back; a client that leaves has what it sent delivered, and a resumable connection outlives every
 * end of its WebSocket but the one the client asked for.
 */
import { every, ignore, type Logger, sleep } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import {
  CloseCode,
  decodeProxyRequest,
  decodeProxyText,
  type ProxyAnswer,
  type ProxyRequest,
  type ProxyText,
} from "@sprited/protocol/stream";
import type WebSocket from "ws";
import type { RawData } from "ws";
import type { Attachment, ExecSession, SessionEnd } from "../../exec/exec.ts";
import type { Caller } from "../../organization/index.ts";
import { toApiError } from "../error-map.ts";
import type { ApiContext } from "../handler.ts";
import { cutOffAfter } from "./cut-off.ts";
import { ProxyInput } from "./proxy-input.ts";

/** How long a client may take to say where it wants to go, ms. */
const REQUEST_TIMEOUT_MS = 30_000;
/** How long a left connection may take to end before it is cut, ms (PROXY-4). */
const LEFT_MS = 10_000;
/** Largest message we send, bytes. */
const MESSAGE_BYTES_MAX = 64 * 1024;
/** Unsent bytes at which the peer is held back. */
const BUFFER_BYTES_MAX = 1024 * 1024;
/**
 * Pause between `connected` and the first byte for official clients, ms: one of them begins to
 * listen for bytes only a turn after it has read the answer.
 */
const FIRST_BYTE_MS = 15;
/** Signs of life in a row that a client of a resumable connection may miss. */
const MISSED_MAX = 3;

export interface ProxySocketOptions {
  socket: WebSocket;
  context: ApiContext;
  caller: Caller;
  spriteName: string;
  logger: Logger;
}

export interface ProxyOutcome {
  outcome: "refused" | "ended" | "broken" | "left" | "lost";
  sessionId: string | undefined;
  sentBytes: number;
}

/** Who holds a resumable connection now: one that comes back takes over from a half-dead predecessor. */
const holders = new WeakMap<ExecSession, ProxySocket>();

/** Serves the socket; resolves when it is done with. Never rejects. */
export async function serveProxySocket(options: ProxySocketOptions): Promise<ProxyOutcome> {
  const served = new ProxySocket(options);
  const outcome = await served.run().catch((error: unknown): ProxyOutcome["outcome"] => {
    options.logger.error({ event: "proxy.socket", err: error }, "a proxy socket failed");
    options.socket.terminate();
    return "broken";
  });
  return { outcome, sessionId: served.sessionId, sentBytes: served.sentBytes };
}

class ProxySocket {
  sessionId: string | undefined;
  sentBytes = 0;
  readonly #options: ProxySocketOptions;
  readonly #gone = new AbortController();
  readonly #request = Promise.withResolvers<ProxyRequest | string>();
  readonly #input: ProxyInput;
  #isAsked = false;
  #isResumable = false;
  #closeCode = 0;
  #isReplaced = false;
  #attachment: Attachment | undefined;

  constructor(options: ProxySocketOptions) {
    this.#options = options;
    const { socket, context } = options;
    this.#input = new ProxyInput(socket);
    socket.on("message", (data: RawData, isBinary: boolean) => this.#hear(data, isBinary));
    socket.on("error", (error) => {
      options.logger.debug({ event: "proxy.socket", err: error }, "the client broke the WebSocket protocol or its connection");
      cutOffAfter(context.timings.closeMs, socket, () => socket.terminate());
    });
    socket.once("close", (code: number) => {
      this.#closeCode = code;
      this.#gone.abort(new Error("the client is gone"));
      this.#request.resolve("the client left");
    });
  }

  async run(): Promise<ProxyOutcome["outcome"]> {
    const request = await this.#asked();
    if (typeof request === "string") return this.#refuse("", new ApiError("body_invalid", request));
    const target = request.kind === "connect" ? `${request.host}:${request.port}` : "";
    let session: ExecSession;
    try {
      session = await this.#open(request);
    } catch (error) {
      return this.#refuse(target, toApiError(error));
    }
    this.sessionId = session.id;
    return await this.#serve(session, request, target);
  }

  /** The client's first message; a string when there is none that can be used. */
  async #asked(): Promise<ProxyRequest | string> {
    const tooLate = new AbortController();
    const late = sleep(REQUEST_TIMEOUT_MS, { signal: tooLate.signal, ref: false }).then(
      () => "nothing was asked for in time",
      () => "",
    );
    const request = await Promise.race([this.#request.promise, late]);
    tooLate.abort();
    return request;
  }

  async #open(request: ProxyRequest): Promise<ExecSession> {
    const { context, caller, spriteName } = this.#options;
    const { proxies } = context.features;
    if (request.kind === "resume") {
      const session = await proxies.resume(caller.organizationId, spriteName, request.sessionId, { signal: this.#gone.signal });
      await session.inputKnown;
      return session;
    }
    const { resumable, key } = request;
    return await proxies.connect(caller.organizationId, spriteName, request, { resumable, key, signal: this.#gone.signal });
  }

  async #serve(session: ExecSession, request: ProxyRequest, target: string): Promise<ProxyOutcome["outcome"]> {
    this.#isResumable = request.kind === "resume" || request.resumable;
    if (this.#isResumable) {
      holders.get(session)?.replaced();
      holders.set(session, this);
    }
    const attachment = session.attach(request.kind === "resume" ? { from: { position: request.offset } } : {});
    this.#attachment = attachment;
    this.#answer({
      status: "connected",
      target: target || session.command.replace(/^connect /, ""),
      ...(this.#isResumable ? { session_id: session.id, input_offset: session.inputOf(undefined).accepted } : {}),
    });
    this.#input.open(attachment);
    const stopAcks = this.#isResumable ? this.#sendAcks(session) : (): void => {};
    const probing = this.#isResumable ? this.#probe() : undefined;
    this.#gone.signal.addEventListener("abort", () => this.#left(session, attachment), { once: true });
    if (this.#gone.signal.aborted) this.#left(session, attachment);
    try {
      return await this.#pump(attachment);
    } finally {
      stopAcks();
      probing?.[Symbol.dispose]();
      attachment.close();
      this.#options.socket.once("close", (code: number) => {
        if (code === CloseCode.normal) this.#options.context.features.proxies.forget(session);
      });
    }
  }

  /** Sends what the peer sends; says how it ended. */
  async #pump(attachment: Attachment): Promise<ProxyOutcome["outcome"]> {
    let isFirst = !this.#isResumable;
    for await (const piece of attachment.output) {
      if (isFirst) await sleep(FIRST_BYTE_MS, { signal: this.#gone.signal }).catch(ignore("the client left"));
      isFirst = false;
      if (piece.kind === "gap") return this.#break({ kind: "lost", code: "internal", reason: "bytes of the connection were lost" });
      if (piece.stream === "stderr") {
        if (this.#isResumable) this.#text({ type: "eof" });
        // Official clients know no half-close: the end of one side is the end.
        else this.#close(CloseCode.normal, "");
      } else await this.#send(piece.data);
      // Only a client that can come back says what it has.
      if (!this.#isResumable || this.#gone.signal.aborted) attachment.confirm(piece.position + piece.data.length);
    }
    if (this.#gone.signal.aborted) return this.#isLost ? "lost" : "left";
    const end = await attachment.ended;
    if (end.kind === "lost" || end.exit.code !== 0) return this.#break(end);
    this.#close(CloseCode.normal, "");
    return "ended";
  }

  async #send(data: Uint8Array): Promise<void> {
    const { socket } = this.#options;
    for (let at = 0; at < data.length; at += MESSAGE_BYTES_MAX) {
      // A client that has left is not sent to, but its connection is read on, so that the peer can end it.
      if (!this.#isOpen) return;
      const piece = data.subarray(at, at + MESSAGE_BYTES_MAX);
      this.sentBytes += piece.length;
      if (socket.bufferedAmount < BUFFER_BYTES_MAX) socket.send(piece, { binary: true }, ignore("the socket is closed"));
      else await new Promise<void>((resolve) => socket.send(piece, { binary: true }, () => resolve()));
    }
  }

  /** The client is gone: a lost one may come back, of the others the connection is brought to its end. */
  #left(session: ExecSession, attachment: Attachment): void {
    if (this.#isLost) {
      this.#input.stop();
      attachment.close({ lost: true });
      return;
    }
    void this.#input.finish().then(() => attachment.endInput(), ignore("the connection has ended"));
    void Promise.race([session.ended, sleep(LEFT_MS, { ref: false })]).then(() => {
      if (!session.end) session.signal("KILL");
      attachment.close();
    });
  }

  /** Another WebSocket goes on with the connection. */
  replaced(): void {
    this.#isReplaced = true;
    this.#input.stop();
    this.#attachment?.close();
    this.#options.socket.terminate();
  }

  #hear(data: RawData, isBinary: boolean): void {
    const bytes = Array.isArray(data) ? Buffer.concat(data) : Buffer.isBuffer(data) ? data : Buffer.from(data);
    if (!this.#isAsked) {
      this.#isAsked = true;
      this.#request.resolve(isBinary ? "the first message must be text" : decodeProxyRequest(bytes.toString("utf8")));
    } else if (isBinary) this.#input.take(bytes);
    else if (this.#isResumable) {
      const text = decodeProxyText(bytes.toString("utf8"));
      if (text?.type === "eof") this.#input.end();
      if (text?.type === "ack") this.#attachment?.confirm(text.offset);
    }
  }

  /** Tells the client which of its bytes the peer has, so that it need not keep them. */
  #sendAcks(session: ExecSession): () => void {
    let isWaiting = false;
    // What was said last may have been lost with the last WebSocket, and the client may be waiting for it.
    if (session.inputOf(undefined).taken > 0) this.#text({ type: "ack", offset: session.inputOf(undefined).taken });
    return session.onInputTaken(() => {
      if (isWaiting) return;
      isWaiting = true;
      setImmediate(() => {
        isWaiting = false;
        this.#text({ type: "ack", offset: session.inputOf(undefined).taken });
      });
    });
  }

  /** A client of ours answers pings: one that does not has vanished and will come back by another way. */
  #probe(): Disposable {
    const { socket, context } = this.#options;
    let missed = 0;
    socket.on("pong", () => (missed = 0));
    socket.on("message", () => (missed = 0));
    return every(context.timings.keepAliveMs, () => {
      if (!this.#isOpen || socket.isPaused) return;
      if (missed >= MISSED_MAX) socket.terminate();
      missed += 1;
      socket.ping();
    });
  }

  #refuse(target: string, error: ApiError): "refused" {
    this.#answer({ status: "error", target, error: error.message, code: error.code });
    this.#close(CloseCode.normal, "");
    return "refused";
  }

  #break(end: SessionEnd): "broken" {
    const error = end.kind === "lost" ? end.reason : "the connection was reset";
    if (this.#isResumable) this.#text({ type: "reset", error });
    this.#close(CloseCode.lost, error);
    return "broken";
  }

  #answer(answer: ProxyAnswer): void {
    if (this.#isOpen) this.#options.socket.send(JSON.stringify(answer), ignore("the socket is closed"));
  }

  #text(text: ProxyText): void {
    if (this.#isOpen) this.#options.socket.send(JSON.stringify(text), ignore("the socket is closed"));
  }

  #close(code: number, reason: string): void {
    const { socket, context } = this.#options;
    if (!this.#isOpen) return;
    socket.close(code, Buffer.from(reason).subarray(0, 123));
    cutOffAfter(context.timings.closeMs, socket, () => socket.terminate());
  }

  get #isOpen(): boolean {
    return this.#options.socket.readyState === this.#options.socket.OPEN;
  }

  /** Whether the client may come back: it did not say that it is done. */
  get #isLost(): boolean {
    return this.#isReplaced || (this.#isResumable && this.#closeCode !== CloseCode.normal);
  }
}
