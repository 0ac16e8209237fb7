/**
 * A TCP connection to a port in a sprite, over as many WebSockets as it takes (docs/spec/ports.md).
 * No schema library here, so that a command line tool starts fast.
 *
 * Invariants: received bytes are handed over in order, each once; sent bytes are kept until the
 * server says that the peer has them; a lost WebSocket is opened anew until the signal aborts; `ended`
 * settles exactly once.
 */
import { ApiError, isErrorCode } from "../errors.ts";
import { decodeProxyAnswer, decodeProxyText, type ProxyAnswer } from "../stream/proxy-messages.ts";
import { pauseBefore } from "./back-off.ts";
import { ConnectionError } from "./errors.ts";
import { type ExecTarget, globalSocket, onRefusal, type WebSocketLike } from "./exec.ts";
import { InputKeeper } from "./input-keeper.ts";

/** From opening a WebSocket to the server's answer, in which it wakes the sprite, ms. */
const OPEN_TIMEOUT_MS = 45_000;
/** Bytes kept for a peer that does not take them, at which `write` waits. */
const KEPT_BYTES_MAX = 4 * 1024 * 1024;
/**
 * Bytes sent beyond what the peer has. More would make the server stop reading us, and with it what
 * we tell it of received bytes: both directions would wait for each other.
 */
const WINDOW_BYTES = 1024 * 1024;
/** For how long the first WebSocket is tried again when it is lost before the server's answer, ms. */
const FIRST_FOR_MS = 60_000;
/** Unsent bytes at which sending waits. */
const BUFFER_BYTES_MAX = 1024 * 1024;
/** Largest message sent, bytes. */
const MESSAGE_BYTES_MAX = 64 * 1024;
/** Bytes taken before the server is told so. */
const CONFIRM_BYTES = 64 * 1024;
const OPEN = 1;
const NORMAL = 1000;

export interface ProxyHandlers {
  /** Bytes of the peer; call `taken` once they are where they belong: at most 1 MiB comes beyond that. */
  data(bytes: Uint8Array, taken: () => void): void;
  /** The peer sends no more; it may still take. */
  eof(): void;
  /** The WebSocket is lost and is being opened anew. */
  lost?(error: unknown): void;
  /** It goes on. */
  back?(): void;
}

export interface ProxyConnection {
  /** Where it goes, as the server says it. */
  readonly target: string;
  /** Resolves when both sides have ended. Rejects with `ApiError` or `ConnectionError` when it broke, or with the signal's reason. */
  readonly ended: Promise<void>;
  /** Resolves when more may be sent. */
  write(data: Uint8Array): Promise<void>;
  /** Sends no more. */
  end(): void;
  /** Gives the connection up. What was written is still delivered. */
  close(): void;
}

/** Connects; resolves when the peer has answered. Throws `ApiError` (`target_unreachable`), `ConnectionError`. */
export async function openProxy(
  target: ExecTarget,
  to: { host: string; port: number },
  handlers: ProxyHandlers,
  options: { signal?: AbortSignal } = {},
): Promise<ProxyConnection> {
  const connection = new Connection(target, to, handlers);
  await connection.open(options.signal);
  return connection;
}

class Connection implements ProxyConnection {
  target = "";
  readonly #to: { host: string; port: number };
  readonly #server: ExecTarget;
  readonly #handlers: ProxyHandlers;
  readonly #ended = Promise.withResolvers<void>();
  #signal: AbortSignal | undefined;
  #socket: WebSocketLike | undefined;
  readonly #key = crypto.randomUUID();
  #sessionId: string | undefined;
  #kept = new InputKeeper(0);
  #sent = 0;
  #sending = false;
  #isEofSent = false;
  #received = 0;
  #taken = 0;
  #confirmed = 0;
  #isPeerEnded = false;
  #isSettled = false;
  #waiters: (() => void)[] = [];

  constructor(server: ExecTarget, to: { host: string; port: number }, handlers: ProxyHandlers) {
    this.#server = server;
    this.#to = to;
    this.#handlers = handlers;
    void Promise.allSettled([this.#ended.promise]); // a failure is heard by whoever waits
  }

  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Makes the first connection. */
  async open(signal: AbortSignal | undefined): Promise<void> {
    this.#signal = signal;
    signal?.addEventListener("abort", () => this.#settle(signal.reason), { once: true });
    try {
      await this.#begin();
    } catch (error) {
      this.#settle(error);
      throw error;
    }
  }

  /** Nothing was sent yet, and the server knows the connection by its key: one that is cut before the answer is asked for again. */
  async #begin(): Promise<void> {
    const untilMs = performance.now() + FIRST_FOR_MS;
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.#dial();
        if (attempt > 1) this.#handlers.back?.();
        return;
      } catch (error) {
        const isCut = error instanceof ConnectionError && ["unreachable", "closed"].includes(error.code);
        if (!isCut || this.#isSettled || performance.now() > untilMs) throw error;
        if (attempt === 1) this.#handlers.lost?.(error);
      }
      await new Promise((resolve) => setTimeout(resolve, pauseBefore(attempt, Math.random())));
    }
  }

  async write(data: Uint8Array): Promise<void> {
    if (this.#isSettled || this.#kept.isEnded) return;
    this.#kept.append(data);
    void this.#flush();
    while (!this.#isSettled && this.#kept.bytes > KEPT_BYTES_MAX) await this.#changed();
  }

  end(): void {
    this.#kept.isEnded = true;
    void this.#flush();
  }

  #took(bytes: number): void {
    this.#taken += bytes;
    if (this.#taken - this.#confirmed < CONFIRM_BYTES) return;
    this.#confirmed = this.#taken;
    this.#text({ type: "ack", offset: this.#taken });
  }

  close(): void {
    this.#settle(undefined);
  }

  /** Opens one WebSocket and waits for the server's answer on it. */
  async #dial(): Promise<void> {
    const { baseUrl, token, sprite, openSocket } = this.#server;
    const url = `${baseUrl.replace(/^http/, "ws").replace(/\/+$/, "")}/v1/sprites/${encodeURIComponent(sprite)}/proxy`;
    const socket = (openSocket ?? globalSocket)(url, { authorization: `Bearer ${token}` });
    if (socket.binaryType === "blob") socket.binaryType = "arraybuffer";
    const answered = Promise.withResolvers<ProxyAnswer>();
    let isConnected = false;
    const timer = setTimeout(() => answered.reject(new ConnectionError("timeout", "the sprite did not answer in time")), OPEN_TIMEOUT_MS);
    const stop = (): void => answered.reject(this.#signal?.reason);
    this.#signal?.addEventListener("abort", stop, { once: true });
    onRefusal(socket, answered.reject);
    socket.onopen = () => socket.send(JSON.stringify(this.#request()));
    socket.onerror = (event: { error?: unknown }) =>
      answered.reject(new ConnectionError("unreachable", "the WebSocket could not be opened", { cause: event.error }));
    socket.onclose = (event: { code?: number }) => {
      const error = new ConnectionError("closed", "the connection to the server ended");
      if (isConnected) this.#lost(socket, event.code ?? 0, error);
      else answered.reject(error);
    };
    socket.onmessage = (event: { data: unknown }) => {
      if (isConnected) return this.#hear(event.data);
      const answer = typeof event.data === "string" ? decodeProxyAnswer(event.data) : undefined;
      if (!answer) return answered.reject(new ConnectionError("bad_answer", "the answer is not one of this API"));
      // At once: the next message may come in the same turn.
      if (answer.status === "connected") {
        isConnected = true;
        this.#connected(socket, answer);
      }
      answered.resolve(answer);
    };
    try {
      const answer = await answered.promise;
      if (answer.status === "error") throw new ApiError(isErrorCode(answer.code) ? answer.code : "target_unreachable", answer.error);
    } catch (error) {
      socket.onclose = null;
      socket.close(NORMAL);
      throw error;
    } finally {
      clearTimeout(timer);
      this.#signal?.removeEventListener("abort", stop);
    }
  }

  #request(): object {
    return this.#sessionId === undefined
      ? { ...this.#to, resumable: true, key: this.#key }
      : { resume: this.#sessionId, offset: this.#received };
  }

  #connected(socket: WebSocketLike, answer: Extract<ProxyAnswer, { status: "connected" }>): void {
    if (this.#isSettled) return socket.close(NORMAL);
    this.target = answer.target;
    // A server without this extension has no id: a lost WebSocket is then the connection's end.
    this.#sessionId = answer.session_id;
    this.#socket = socket;
    this.#sent = Math.max(answer.input_offset ?? 0, this.#kept.start);
    this.#isEofSent = false;
    // What was said of taken bytes may have been lost with the last WebSocket, and the server may be waiting for it.
    this.#confirmed = this.#taken;
    if (this.#taken > 0) this.#text({ type: "ack", offset: this.#taken });
    void this.#flush();
  }

  #hear(data: unknown): void {
    if (this.#isSettled) return;
    if (typeof data !== "string") {
      const bytes = data instanceof Uint8Array ? data : new Uint8Array(data as ArrayBuffer);
      if (bytes.length === 0) return;
      this.#received += bytes.length;
      this.#handlers.data(bytes, () => this.#took(bytes.length));
      return;
    }
    const text = decodeProxyText(data);
    if (text?.type === "ack") {
      this.#kept.acknowledge(text.offset);
      this.#wake();
      void this.#flush();
    } else if (text?.type === "eof") this.#peerEnded();
    else if (text?.type === "reset") this.#settle(new ConnectionError("closed", text.error || "the connection was reset"));
  }

  #peerEnded(): void {
    if (this.#isPeerEnded) return;
    this.#isPeerEnded = true;
    this.#handlers.eof();
  }

  #lost(socket: WebSocketLike, code: number, error: unknown): void {
    if (this.#socket !== socket || this.#isSettled) return;
    this.#socket = undefined;
    if (code === NORMAL) {
      this.#peerEnded();
      return this.#settle(undefined);
    }
    if (this.#sessionId === undefined) return this.#settle(error);
    this.#handlers.lost?.(error);
    void this.#redial();
  }

  async #redial(): Promise<void> {
    for (let attempt = 0; !this.#isSettled; attempt += 1) {
      await new Promise((resolve) => setTimeout(resolve, pauseBefore(attempt, Math.random())));
      if (this.#isSettled) return;
      try {
        await this.#dial();
        this.#handlers.back?.();
        return;
      } catch (error) {
        if (ApiError.is(error) && error.status < 500 && error.status !== 429) return this.#settle(error);
      }
    }
  }

  /** Sends what is kept and was not sent on this WebSocket, then the end. */
  async #flush(): Promise<void> {
    if (this.#sending) return;
    this.#sending = true;
    try {
      for (let socket = this.#socket; socket?.readyState === OPEN && !this.#isSettled; socket = this.#socket) {
        const bytes = this.#kept.from(this.#sent);
        if (!bytes) {
          if (this.#kept.isEnded && !this.#isEofSent) {
            this.#isEofSent = true;
            this.#text({ type: "eof" });
          }
          return;
        }
        const room = this.#kept.start + WINDOW_BYTES - this.#sent;
        if (room <= 0) return;
        if (socket.bufferedAmount > BUFFER_BYTES_MAX) {
          await new Promise((resolve) => setTimeout(resolve, 1));
          continue;
        }
        const piece = bytes.subarray(0, Math.min(room, MESSAGE_BYTES_MAX));
        socket.send(piece);
        this.#sent += piece.length;
      }
    } finally {
      this.#sending = false;
    }
  }

  #text(text: object): void {
    if (this.#socket?.readyState === OPEN) this.#socket.send(JSON.stringify(text));
  }

  #settle(error: unknown): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    this.#socket?.close(NORMAL);
    this.#socket = undefined;
    if (error === undefined) this.#ended.resolve();
    else this.#ended.reject(error);
    this.#wake();
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter();
  }
}
