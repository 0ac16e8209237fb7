/**
 * Running a command in a sprite over a WebSocket. No schema library here, so that a command line
 * tool starts fast.
 *
 * Invariants: output is handed over in order, every byte once; `ended` settles exactly once, with
 * the exit code or with the reason why it is not known; nothing is awaited of the server after
 * the exit.
 */
import { queryToText } from "../api/query-text.ts";
import { ApiError, isErrorCode } from "../errors.ts";
import { decodeServerMessage, encodeFrame, encodeInputEnd, type ServerText, type SessionInfo, StreamId } from "../stream/exec-messages.ts";
import { ConnectionError } from "./errors.ts";

/** Handshake, in which the server wakes the sprite and starts the command, ms. */
const OPEN_TIMEOUT_MS = 45_000;
/** Silence after which the server counts as lost, ms; it sends something every 15 s. */
const SILENCE_MS = 40_000;
/** Unsent input at which `write` waits, bytes. */
const SEND_BUFFER_BYTES = 1024 * 1024;
/** Largest piece of input in one message, bytes. */
const INPUT_FRAME_BYTES = 64 * 1024;

/** Codes of errors that end a connection, as opposed to those that prevent it. */
const CUT: ReadonlySet<unknown> = new Set(["ECONNRESET", "ECONNABORTED", "EPIPE"]);

/** What is needed of a WebSocket; the global one and that of `ws` have it. */
export interface WebSocketLike {
  // oxlint-disable-next-line typescript/no-explicit-any -- implementations differ in the type, not in the value
  binaryType: any;
  readonly bufferedAmount: number;
  readonly readyState: number;
  send(data: string | Uint8Array): void;
  close(code?: number, reason?: string): void;
  // oxlint-disable-next-line typescript/no-explicit-any -- event classes differ between implementations
  onopen: ((event: any) => void) | null;
  // oxlint-disable-next-line typescript/no-explicit-any -- as above
  onmessage: ((event: any) => void) | null;
  // oxlint-disable-next-line typescript/no-explicit-any -- as above
  onclose: ((event: any) => void) | null;
  // oxlint-disable-next-line typescript/no-explicit-any -- as above
  onerror: ((event: any) => void) | null;
}

/** Opens a WebSocket with request headers. */
export type SocketOpener = (url: string, headers: Record<string, string>) => WebSocketLike;

export interface ExecTarget {
  baseUrl: string;
  token: string;
  sprite: string;
  /** Default: the global WebSocket, which must take headers (Node's does). */
  openSocket?: SocketOpener;
  /** Default: `openExec`, over a WebSocket. */
  openConnection?: typeof openExec;
}

/**
 * A new command, or a session to attach to. `resumeAs`: a name of this client's own under which it
 * may come back; input is then acknowledged, and an older connection of that name is ended first.
 */
export type ExecWhat = { resumeAs?: string } & (
  | {
      kind: "command";
      argv: readonly string[];
      env?: Readonly<Record<string, string>> | undefined;
      dir?: string | undefined;
      tty?: { cols: number; rows: number } | undefined;
      /** False connects the command to an empty input. */
      stdin: boolean;
      /** For example `10s`; `0s`: for ever. */
      maxRunAfterDisconnect?: string | undefined;
      /** Under which the same request never starts a second command; servers that know no keys ignore it. */
      startKey?: string | undefined;
      /** The request was made before and may have started the command: servers that know no keys refuse it and start nothing. */
      isRepeated?: boolean | undefined;
    }
  | {
      kind: "attach";
      sessionId: string;
      /** Log position to go on from; left out: all that is kept, of a terminal its picture. */
      offset?: number | undefined;
      /** Our terminal's size. */
      size?: { cols: number; rows: number } | undefined;
    }
);

export interface ExecHandlers {
  /** Output in order; in a terminal session all of it is `stdout`. */
  output(stream: "stdout" | "stderr", data: Uint8Array): void;
  /** The session's first word, before any output. */
  started?(info: SessionInfo): void;
  /** Input up to `offset` need not be kept any more. */
  inputAck?(offset: number): void;
  /** Output between two log positions is gone for good. */
  gap?(from: number, to: number): void;
}

export interface ExecConnection {
  readonly info: SessionInfo;
  /** The exit code. Rejects with `ApiError` or `ConnectionError` when the outcome is not known. */
  readonly ended: Promise<number>;
  /** Sends input; resolves when more may be sent. Without effect after the end. */
  write(data: Uint8Array): Promise<void>;
  /** Closes the command's input. Without effect in a terminal session. */
  endInput(): void;
  resize(size: { cols: number; rows: number }): void;
  /** Signal name with or without `SIG`. */
  signal(name: string): void;
  /** Stops taking output, which holds the command back; a hint where the WebSocket cannot pause. */
  pause(): void;
  resume(): void;
  /** Leaves the session, which runs on for its run-on time; `ended` rejects unless it has settled. */
  detach(): void;
}

/** Starts a command or attaches to a session; resolves when the session is there. Throws `ApiError`, `ConnectionError`. */
export async function openExec(
  target: ExecTarget,
  what: ExecWhat,
  handlers: ExecHandlers,
  options: { signal?: AbortSignal; timeoutMs?: number } = {},
): Promise<ExecConnection> {
  const open = target.openSocket ?? globalSocket;
  const socket = open(execUrl(target, what), { authorization: `Bearer ${target.token}` });
  if (socket.binaryType === "blob") socket.binaryType = "arraybuffer";
  const connection = new Connection(socket, handlers);
  await connection.opened(options);
  return connection;
}

/** URL of the WebSocket. */
export function execUrl(target: { baseUrl: string; sprite: string }, what: ExecWhat): string {
  const base = `${target.baseUrl.replace(/\/+$/, "").replace(/^http/, "ws")}/v1/sprites/${encodeURIComponent(target.sprite)}/exec`;
  const resumable = what.resumeAs === undefined ? {} : { input_acks: true, client: what.resumeAs };
  if (what.kind === "attach") {
    const { cols, rows } = what.size ?? {};
    return `${base}/${encodeURIComponent(what.sessionId)}?${queryToText({ stdin: true, offset: what.offset, cols, rows, ...resumable })}`;
  }
  return `${base}${what.isRepeated ? "/start" : ""}?${queryToText({
    cmd: what.argv,
    stdin: what.stdin,
    dir: what.dir,
    env: what.env && Object.entries(what.env).map(([name, value]) => `${name}=${value}`),
    ...(what.tty ? { tty: true, cols: what.tty.cols, rows: what.tty.rows } : {}),
    max_run_after_disconnect: what.maxRunAfterDisconnect,
    start_key: what.startKey,
    ...resumable,
  })}`;
}

class Connection implements ExecConnection {
  readonly ended: Promise<number>;
  readonly #socket: WebSocketLike;
  readonly #handlers: ExecHandlers;
  readonly #started: Promise<SessionInfo>;
  #info: SessionInfo | undefined;
  #settled = false;
  #lastHeardMs = performance.now();
  #silenceTimer: ReturnType<typeof setInterval> | undefined;
  #error: ApiError | undefined;
  #resolveStarted: (info: SessionInfo) => void = () => {};
  #resolveEnded: (code: number) => void = () => {};
  #fail: (error: unknown) => void = () => {};

  constructor(socket: WebSocketLike, handlers: ExecHandlers) {
    this.#socket = socket;
    this.#handlers = handlers;
    const started = Promise.withResolvers<SessionInfo>();
    const ended = Promise.withResolvers<number>();
    this.#started = started.promise;
    this.ended = ended.promise;
    // Whoever waits for the one hears of a failure; the other must not count as unhandled.
    void Promise.allSettled([this.ended, this.#started]);
    this.#resolveStarted = started.resolve;
    this.#resolveEnded = ended.resolve;
    this.#fail = (error) => {
      started.reject(error);
      ended.reject(error);
    };
    this.#listen();
  }

  get info(): SessionInfo {
    if (!this.#info) throw new Error("the session is not open yet");
    return this.#info;
  }

  /** Waits for the session's first message. */
  async opened(options: { signal?: AbortSignal; timeoutMs?: number }): Promise<void> {
    const timeoutMs = options.timeoutMs ?? OPEN_TIMEOUT_MS;
    const timer = setTimeout(
      () => this.#lose(new ConnectionError("timeout", `the sprite did not answer within ${Math.round(timeoutMs / 1000)} s`)),
      timeoutMs,
    );
    const onAbort = (): void => this.#lose(options.signal?.reason);
    options.signal?.addEventListener("abort", onAbort, { once: true });
    if (options.signal?.aborted) onAbort();
    try {
      await this.#started;
    } finally {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", onAbort);
    }
    this.#silenceTimer = setInterval(() => {
      if (performance.now() - this.#lastHeardMs > SILENCE_MS)
        this.#lose(new ConnectionError("timeout", `nothing from the server for ${SILENCE_MS / 1000} s`));
    }, SILENCE_MS / 4);
    if (this.#settled) clearInterval(this.#silenceTimer);
  }

  async write(data: Uint8Array): Promise<void> {
    const tty = this.info.tty;
    for (let at = 0; at < data.length; at += INPUT_FRAME_BYTES) {
      while (this.#isOpen && this.#socket.bufferedAmount > SEND_BUFFER_BYTES) await new Promise((resolve) => setTimeout(resolve, 2));
      const piece = data.subarray(at, at + INPUT_FRAME_BYTES);
      this.#send(tty ? piece : encodeFrame(StreamId.stdin, piece));
    }
  }

  endInput(): void {
    if (!this.info.tty) this.#send(encodeInputEnd());
  }

  resize(size: { cols: number; rows: number }): void {
    this.#send(JSON.stringify({ type: "resize", cols: size.cols, rows: size.rows }));
  }

  signal(name: string): void {
    this.#send(JSON.stringify({ type: "signal", signal: name }));
  }

  pause(): void {
    (this.#socket as { pause?: () => void }).pause?.();
  }

  resume(): void {
    (this.#socket as { resume?: () => void }).resume?.();
  }

  detach(): void {
    this.#lose(new ConnectionError("closed", "left the session"));
  }

  #listen(): void {
    const socket = this.#socket;
    socket.onmessage = (event: { data: unknown }) => this.#hear(event.data);
    socket.onclose = (event: { code?: number }) => {
      this.#lose(
        this.#error ??
          new ConnectionError(
            "closed",
            `the connection to the sprite ended${event.code === undefined ? "" : ` (${event.code})`} before the command did`,
          ),
      );
    };
    socket.onerror = (event: { error?: unknown }) => {
      if (this.#info) return;
      const { error: cause } = event;
      this.#lose(
        wasCut(cause)
          ? new ConnectionError("closed", "the connection ended before the server answered", { cause })
          : new ConnectionError("unreachable", "the WebSocket could not be opened", { cause }),
      );
    };
    onRefusal(socket, (error) => this.#lose(error));
  }

  #hear(data: unknown): void {
    this.#lastHeardMs = performance.now();
    if (this.#settled) return;
    const bytes = typeof data === "string" ? data : data instanceof Uint8Array ? data : new Uint8Array(data as ArrayBuffer);
    const message = decodeServerMessage(bytes, { tty: this.#info?.tty ?? false });
    if (message.kind === "output") this.#handlers.output(message.stream, message.data);
    else if (message.kind === "exit") this.#end(message.code);
    else if (message.kind === "text") {
      this.#hearText(message.text);
    }
  }

  #hearText(text: ServerText): void {
    switch (text.type) {
      case "session_info":
        if (this.#info) return;
        this.#info = text;
        this.#handlers.started?.(text);
        return this.#resolveStarted(text);
      case "exit":
        return this.#end(text.exit_code);
      case "input_ack":
        return this.#handlers.inputAck?.(text.offset);
      case "output_gap":
        return this.#handlers.gap?.(text.from, text.to);
      case "error":
        this.#error = new ApiError(isErrorCode(text.error) ? text.error : "internal", text.message);
    }
  }

  /** The end with an exit code; a preceding error message means that the code stands for a lost session. */
  #end(code: number): void {
    if (this.#error) return this.#lose(this.#error);
    this.#settle();
    this.#resolveEnded(code);
  }

  #lose(error: unknown): void {
    if (this.#settled) return;
    this.#settle();
    this.#fail(error);
  }

  #settle(): void {
    this.#settled = true;
    clearInterval(this.#silenceTimer);
    this.#socket.close(1000);
  }

  #send(data: string | Uint8Array): void {
    if (this.#isOpen) this.#socket.send(data);
  }

  get #isOpen(): boolean {
    return !this.#settled && this.#socket.readyState === 1;
  }
}

/** Whether there was a connection: then the request may have reached the server. */
function wasCut(cause: unknown): boolean {
  return CUT.has((cause as { code?: unknown } | undefined)?.code);
}

/** The part of `ws` that shows why a handshake was refused; other implementations hide it. */
interface RefusalSource {
  on?: (event: "unexpected-response", listener: (request: { destroy(): void }, response: RefusalResponse) => void) => void;
}

interface RefusalResponse {
  statusCode?: number;
  on(event: "data", listener: (chunk: Uint8Array) => void): void;
  on(event: "end" | "error" | "close", listener: () => void): void;
}

/** Reports a refused handshake as the error in its answer, where the WebSocket shows it. */
export function onRefusal(socket: WebSocketLike, report: (error: ApiError) => void): void {
  (socket as RefusalSource).on?.("unexpected-response", (request, response) => {
    const decoder = new TextDecoder();
    let text = "";
    const done = (): void => {
      report(ApiError.fromAnswer(response.statusCode ?? 500, text));
      request.destroy();
    };
    response.on("data", (chunk) => {
      if (text.length < 65_536) text += decoder.decode(chunk, { stream: true });
    });
    response.on("end", done);
    response.on("error", done);
  });
}

/** Opens the runtime's own WebSocket. */
export function globalSocket(url: string, headers: Record<string, string>): WebSocketLike {
  const Constructor = WebSocket as unknown as new (url: string, options: { headers: Record<string, string> }) => WebSocketLike;
  return new Constructor(url, { headers });
}
