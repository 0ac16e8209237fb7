/**
 * A command in a sprite that outlives its connection: on a lost one it attaches again and goes on
 * at the right byte, both ways (docs/spec/reconnect.md).
 *
 * ```
 * begin ──► connected ──loss──► lost ──attach──► connected
 *  ▲  │         │                │ time is up, session unknown
 *  └cut, key    └──exit──► over ◄┘
 * ```
 *
 * Invariants: every output byte is handed over once and in order, or told as a gap; input goes on
 * where the server has it, in order; a start is repeated only under its key, where only servers that know it answer; of
 * two connections only the newer one is heard; `ended` settles exactly once.
 */
import type { SessionInfo } from "../stream/exec-messages.ts";
import { pauseBefore } from "./back-off.ts";
import { ConnectionError } from "./errors.ts";
import { type ExecConnection, type ExecHandlers, type ExecTarget, type ExecWhat, openExec } from "./exec.ts";
import { InputKeeper } from "./input-keeper.ts";
import { gaveUp, knowsNoKeys, mayPass, refusal } from "./refusals.ts";

/** One attempt to attach again, ms. */
const ATTEMPT_MS = 15_000;
/** Unacknowledged input at which `write` waits, bytes. */
const INPUT_BYTES_MAX = 1024 * 1024;
/** A connection that lives shorter and brings nothing counts as another failed attempt, ms. */
const SHORT_LIFE_MS = 1000;
/** One attempt to start again, in which the server may have to wake the sprite, ms. */
const FIRST_ANSWER_MS = 45_000;

export interface LastingHandlers extends ExecHandlers {
  /** The connection is lost; once for each loss. */
  lost?(error: unknown): void;
  /** Attached again. `redrawn`: what follows first draws the terminal's whole picture. */
  back?(how: { afterMs: number; redrawn: boolean }): void;
  /** So many bytes of output are gone for good; what follows comes after them. */
  missing?(bytes: number): void;
}

export interface LastingOptions {
  /** Aborts the first connection; afterwards `detach`. */
  signal?: AbortSignal;
  /** First connection, ms. */
  timeoutMs?: number;
  /** How long a lost connection is tried again, ms; 0: not at all. */
  reconnectForMs: number;
  /** A terminal lost for longer is drawn anew instead of getting what it missed, ms. Default: never. */
  redrawAfterMs?: number;
  /** Chance for the pauses, 0 to 1. */
  chance?: () => number;
}

export interface LastingConnection extends ExecConnection {
  /** False while the connection is lost. */
  readonly isConnected: boolean;
}

/**
 * Starts a command or attaches to a session. Servers that do not count output give a connection
 * that ends with its first loss. Throws `ApiError`, `ConnectionError`.
 */
export async function openLastingExec(
  target: ExecTarget,
  what: ExecWhat,
  handlers: LastingHandlers,
  options: LastingOptions,
): Promise<LastingConnection> {
  const lasting = new LastingExec(target, handlers, options);
  await lasting.begin(what);
  return lasting;
}

class LastingExec implements LastingConnection {
  readonly ended: Promise<number>;
  readonly #target: ExecTarget;
  readonly #handlers: LastingHandlers;
  readonly #options: LastingOptions;
  readonly #over = new AbortController();
  /** What the server knows this client by: an older connection of ours must not deliver input late. */
  readonly #name = crypto.randomUUID();
  #settle: { resolve: (code: number) => void; reject: (error: unknown) => void };
  #info: SessionInfo | undefined;
  #connection: ExecConnection | undefined;
  /** Counts connections; what an older one still says is not heard. */
  #generation = 0;
  #connectedAtMs = 0;
  /** When the connection was lost last. */
  #lostAtMs = 0;
  /** Whoever uses us was told of the loss. */
  #lossTold = false;
  /** When the present run of failures began; 0: never. */
  #failingSinceMs = 0;
  /** Attempts since then. */
  #attempts = 0;
  /** Log position after the last byte handed over. */
  #position = 0;
  /** Bytes of a picture still to come: they count in no position. */
  #pictureBytes = 0;
  /** Something arrived since the last attach. */
  #progress = false;
  #input = new InputKeeper(0);
  /** Input offset up to which this connection was given bytes. */
  #sent = 0;
  #endSent = false;
  #pumping: ExecConnection | undefined;
  #waiting: (() => void)[] = [];
  #size: { cols: number; rows: number } | undefined;
  #paused = false;

  constructor(target: ExecTarget, handlers: LastingHandlers, options: LastingOptions) {
    this.#target = target;
    this.#handlers = handlers;
    this.#options = options;
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    this.ended = promise;
    this.#settle = { resolve, reject };
    void Promise.allSettled([promise]); // whoever waits for it hears of a failure
  }

  get info(): SessionInfo {
    if (!this.#info) throw new Error("the session is not open yet");
    return this.#info;
  }

  get isConnected(): boolean {
    return this.#connection !== undefined;
  }

  /** The first connection. A command whose start was cut off may run: it is repeated under its key only (REC-11). */
  async begin(asked: ExecWhat): Promise<void> {
    const { signal, timeoutMs, reconnectForMs } = this.#options;
    if (asked.kind === "command" && asked.tty) this.#size = asked.tty;
    const what = reconnectForMs > 0 ? resumable(asked, this.#name) : asked;
    const options = { ...(signal ? { signal } : {}), ...(timeoutMs === undefined ? {} : { timeoutMs }) };
    const connection = await this.#open(what, options).catch(async (error: unknown) => {
      const isCut = error instanceof ConnectionError && (error.code === "closed" || error.code === "timeout") && !signal?.aborted;
      if (!isCut || what.kind !== "command" || what.startKey === undefined) throw error;
      return await this.#startAgain({ ...what, isRepeated: true }, error);
    });
    this.#info = connection.info;
    this.#input = new InputKeeper(connection.info.input_offset ?? 0);
    this.#adopt(connection);
  }

  async write(data: Uint8Array): Promise<void> {
    if (this.#over.signal.aborted || this.#input.isEnded) return;
    if (!this.#isResumable) return await this.#connection?.write(data);
    this.#input.append(data);
    void this.#pump();
    while (this.#input.bytes > INPUT_BYTES_MAX && !this.#over.signal.aborted)
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  endInput(): void {
    this.#input.isEnded = true;
    void this.#pump();
  }

  resize(size: { cols: number; rows: number }): void {
    this.#size = size;
    this.#connection?.resize(size);
  }

  signal(name: string): void {
    this.#connection?.signal(name);
  }

  pause(): void {
    this.#paused = true;
    this.#connection?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#connection?.resume();
  }

  detach(): void {
    this.#end(() => this.#settle.reject(new ConnectionError("closed", "left the session")));
  }

  get #isResumable(): boolean {
    return this.#options.reconnectForMs > 0 && this.#info?.offset !== undefined;
  }

  /** Opens one connection whose words count only while it is the newest. */
  async #open(what: ExecWhat, options: { signal?: AbortSignal; timeoutMs?: number }): Promise<ExecConnection> {
    const generation = ++this.#generation;
    const isNewest = (): boolean => generation === this.#generation && !this.#over.signal.aborted;
    return await (this.#target.openConnection ?? openExec)(
      this.#target,
      what,
      {
        started: (info) => isNewest() && this.#start(info),
        output: (stream, data) => isNewest() && this.#output(stream, data),
        inputAck: (offset) => isNewest() && this.#acknowledge(offset),
        gap: (from, to) => isNewest() && this.#gap(from, to),
      },
      options,
    );
  }

  /** The session's first word comes before any output of the connection. */
  #start(info: SessionInfo): void {
    this.#progress = false;
    if (info.offset === undefined) return;
    const missed = this.#info === undefined || (info.screen_bytes ?? 0) > 0 ? 0 : info.offset - this.#position;
    this.#position = info.offset;
    this.#pictureBytes = info.screen_bytes ?? 0;
    if (this.#lossTold) this.#handlers.back?.({ afterMs: performance.now() - this.#lostAtMs, redrawn: this.#pictureBytes > 0 });
    this.#lossTold = false;
    if (missed > 0) this.#handlers.missing?.(missed);
  }

  #output(stream: "stdout" | "stderr", data: Uint8Array): void {
    this.#progress = true;
    const picture = Math.min(this.#pictureBytes, data.length);
    this.#pictureBytes -= picture;
    this.#position += data.length - picture;
    this.#handlers.output(stream, data);
  }

  #gap(from: number, to: number): void {
    const bytes = to - Math.max(from, this.#position);
    this.#position = Math.max(to, this.#position);
    if (bytes > 0) this.#handlers.missing?.(bytes);
  }

  #acknowledge(offset: number): void {
    if (offset > this.#input.start) this.#progress = true;
    this.#input.acknowledge(offset);
    if (this.#input.bytes <= INPUT_BYTES_MAX) this.#wake();
  }

  #wake(): void {
    for (const waiting of this.#waiting.splice(0)) waiting();
  }

  /** Takes a fresh connection into use. */
  #adopt(connection: ExecConnection): void {
    if (this.#over.signal.aborted) return connection.detach();
    this.#connection = connection;
    this.#connectedAtMs = performance.now();
    if (this.#paused) connection.pause();
    const { input_offset: goesOn = this.#input.start } = connection.info;
    if (goesOn < this.#input.start) {
      connection.detach();
      return this.#fail(new ConnectionError("session_gone", "the server no longer knows how much input it was sent"));
    }
    // Not safe yet: what the server has may be lost with it, so it is kept until it is acknowledged.
    this.#sent = goesOn;
    this.#endSent = false;
    if (this.#size && this.#info !== connection.info) connection.resize(this.#size);
    void this.#pump();
    connection.ended.then(
      (code) => this.#end(() => this.#settle.resolve(code)),
      (error: unknown) => this.#connection === connection && this.#lost(error),
    );
  }

  /** Gives the connection what it has not got yet, in order, at its pace. */
  async #pump(): Promise<void> {
    const connection = this.#connection;
    if (!connection || this.#pumping === connection) return;
    this.#pumping = connection;
    while (this.#connection === connection) {
      const piece = this.#input.from(this.#sent);
      if (!piece) break;
      this.#sent += piece.length;
      await connection.write(piece);
    }
    if (this.#pumping === connection) this.#pumping = undefined;
    if (this.#connection !== connection || !this.#input.isEnded || this.#endSent) return;
    this.#endSent = true;
    connection.endInput();
  }

  #lost(error: unknown): void {
    const livedMs = performance.now() - this.#connectedAtMs;
    this.#connection = undefined;
    if (this.#over.signal.aborted) return;
    if (!this.#isResumable || !(error instanceof ConnectionError)) return this.#fail(error);
    this.#lostAtMs = performance.now();
    if (this.#progress || livedMs >= SHORT_LIFE_MS || this.#failingSinceMs === 0) {
      this.#failingSinceMs = this.#lostAtMs;
      this.#attempts = 0;
    }
    this.#tellLoss(error);
    this.#reattach(error).catch((reason: unknown) => this.#fail(reason));
  }

  #tellLoss(error: unknown): void {
    if (this.#lossTold) return;
    this.#lossTold = true;
    this.#handlers.lost?.(error);
  }

  /** Repeats a start until it is answered, is refused for good or time is up. A loss that the first repetition cures is not worth a word. */
  async #startAgain(what: ExecWhat, loss: ConnectionError): Promise<ExecConnection> {
    const { reconnectForMs, chance = Math.random } = this.#options;
    const signal = this.#options.signal ?? new AbortController().signal;
    this.#lostAtMs = performance.now();
    for (let attempt = 0, latest: unknown = loss; ; attempt += 1) {
      await pause(pauseBefore(attempt, chance()), signal);
      signal.throwIfAborted();
      const leftMs = reconnectForMs - (performance.now() - this.#lostAtMs);
      if (leftMs <= 0) throw gaveUp(reconnectForMs, latest);
      try {
        return await this.#open(what, { timeoutMs: Math.min(this.#options.timeoutMs ?? FIRST_ANSWER_MS, leftMs), signal });
      } catch (error) {
        if (signal.aborted || !mayPass(error)) throw knowsNoKeys(error) ? loss : error;
        latest = error;
        this.#tellLoss(loss);
      }
    }
  }

  /** Attaches again, with pauses between attempts, until it works, is refused for good or time is up. */
  async #reattach(loss: ConnectionError): Promise<void> {
    const { reconnectForMs, chance = Math.random } = this.#options;
    let latest: unknown = loss;
    for (;;) {
      await pause(pauseBefore(this.#attempts++, chance()), this.#over.signal);
      if (this.#over.signal.aborted) return;
      const leftMs = reconnectForMs - (performance.now() - this.#failingSinceMs);
      if (leftMs <= 0) throw gaveUp(reconnectForMs, latest);
      try {
        return this.#adopt(await this.#open(this.#reattachment(), { timeoutMs: Math.min(ATTEMPT_MS, leftMs), signal: this.#over.signal }));
      } catch (error) {
        if (this.#over.signal.aborted) return;
        latest = refusal(error);
      }
    }
  }

  #reattachment(): ExecWhat {
    const { redrawAfterMs } = this.#options;
    const drawAnew = this.info.tty && redrawAfterMs !== undefined && performance.now() - this.#lostAtMs >= redrawAfterMs;
    return {
      kind: "attach",
      sessionId: this.info.session_id,
      resumeAs: this.#name,
      ...(drawAnew ? {} : { offset: this.#position }),
      ...(this.info.tty && this.#size ? { size: this.#size } : {}),
    };
  }

  #fail(error: unknown): void {
    this.#end(() => this.#settle.reject(error));
  }

  #end(settle: () => void): void {
    if (this.#over.signal.aborted) return;
    const connection = this.#connection;
    this.#connection = undefined;
    this.#over.abort();
    this.#wake();
    settle();
    connection?.detach();
  }
}

/** A request whose answer may be lost without harm. */
function resumable(what: ExecWhat, resumeAs: string): ExecWhat {
  return what.kind === "command" ? { ...what, resumeAs, startKey: what.startKey ?? crypto.randomUUID() } : { ...what, resumeAs };
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
