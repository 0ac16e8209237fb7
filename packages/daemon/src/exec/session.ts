/**
 * One exec session: follows a command in a guest over as many links as it takes, and fans its
 * output out to clients (docs/spec/exec.md).
 *
 * The follower is the only one who reads the session stream and the only writer of the log;
 * clients talk to the log, to the input queue and, for signals and sizes, to the current stream.
 */
import { ignore, type Logger, sleep } from "@sprited/base";
import type { TerminalSize } from "@sprited/protocol/guest";
import { GuestError, type SessionStream } from "../guest/index.ts";
import type { Machine } from "../machine/index.ts";
import type { Attachment, ExecSession, SessionEnd } from "./exec.ts";
import { InputQueue } from "./input-queue.ts";
import { OffsetError, OutputLog } from "./output-log.ts";

/** Between `TERM` and `KILL` for a session whose run-on time is over, ms. */
const KILL_AFTER_MS = 5_000;
/** Output held here before the agent is told so, bytes; a quarter of what it keeps. */
const ACKNOWLEDGE_BYTES = 256 * 1024;
/** Pause before a new link is tried, ms; doubles up to the limit. */
const RELINK_PAUSE_MS = 50;
const RELINK_PAUSE_MAX_MS = 2_000;
/** How long a living VM may leave its sessions without a link before they are given up, ms. */
const RELINK_TIMEOUT_MS = 120_000;

export interface SessionOptions {
  id: string;
  command: string;
  /** Directory that was asked for; empty: the home, or not known any more. */
  workdir: string;
  tty: boolean;
  createdAtMs: number;
  machine: Machine;
  runAfterDisconnectMs: number | undefined;
  /** Called once, when the command has ended or is lost. */
  onEnd(end: SessionEnd): void;
  logger: Logger;
}

export class Session implements ExecSession {
  readonly id: string;
  readonly command: string;
  readonly workdir: string;
  readonly tty: boolean;
  readonly createdAtMs: number;
  lastOutputAtMs: number;
  readonly #options: SessionOptions;
  readonly #log = new OutputLog();
  readonly #input = new InputQueue();
  #stream: SessionStream | undefined;
  #end: SessionEnd | undefined;
  #clients = 0;
  #runOn: AbortController | undefined;
  /** Asked for while no stream was there; sent to the next one. */
  #owed: { size: TerminalSize | undefined; signals: string[] } = { size: undefined, signals: [] };
  readonly #ended: Promise<SessionEnd>;
  #settle: (end: SessionEnd) => void = () => {};

  constructor(options: SessionOptions) {
    this.#options = options;
    this.id = options.id;
    this.command = options.command;
    this.workdir = options.workdir;
    this.tty = options.tty;
    this.createdAtMs = options.createdAtMs;
    this.lastOutputAtMs = options.createdAtMs;
    this.#ended = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  get end(): SessionEnd | undefined {
    return this.#end;
  }

  get clients(): number {
    return this.#clients;
  }

  get outputOffsets(): { stdout: number; stderr: number } {
    return this.#log.offsets;
  }

  /** Follows a command that was found in a guest; without a client its run-on time begins now (EXEC-11). */
  adopt(stream: SessionStream): void {
    this.#log.beginAnywhere();
    this.follow(stream);
    this.#startRunOn();
  }

  /** Follows the command until it ends. Called once, with the stream on which it was started. */
  follow(stream: SessionStream): void {
    void this.#followAll(stream).then(
      (end) => this.#finish(end),
      (error: unknown) => {
        this.#options.logger.error({ event: "exec.follow", sessionId: this.id, err: error }, "session lost");
        this.#finish({ kind: "lost", code: "internal", reason: "the daemon lost the session" });
      },
    );
  }

  attach(options: { fromStart?: boolean } = {}): Attachment {
    const reader = this.#log.read({ fromStart: options.fromStart ?? true });
    this.#clients += 1;
    this.#runOn?.abort();
    this.#runOn = undefined;
    let open = true;
    return {
      output: reader.chunks,
      ended: this.#ended,
      write: async (data) => {
        const chunk = this.#input.push(data);
        if (!chunk) return;
        await this.#stream?.sendInput(chunk.offset, chunk.data).catch(ignore("sent again over the next link"));
        await this.#input.room();
      },
      endInput: () => {
        if (this.#input.end()) this.#stream?.endInput(this.#input.length);
      },
      resize: (size) => {
        if (this.#stream) this.#stream.resize(size);
        else this.#owed.size = size;
      },
      close: () => {
        if (!open) return;
        open = false;
        reader.close();
        this.#clients -= 1;
        if (this.#clients === 0) this.#startRunOn();
      },
    };
  }

  signal(name: string): void {
    const short = name.replace(/^SIG/, "");
    if (this.#stream) this.#stream.signal(short);
    else this.#owed.signals.push(short);
  }

  async #followAll(first: SessionStream): Promise<SessionEnd> {
    let stream: SessionStream | undefined = first;
    const gone = this.#options.machine.exited.then((exit): SessionEnd => {
      const reason = exit.kind === "requested" ? "the sprite was stopped" : "the sprite's VM ended while the command ran";
      return { kind: "lost", code: "vm_lost", reason };
    });
    for (;;) {
      const end = stream ? await this.#followOne(stream, gone) : undefined;
      if (end) return end;
      stream = await this.#relink(gone);
      if (!stream) return await gone;
    }
  }

  /** Follows one stream; undefined when the link broke and the command may live on. */
  async #followOne(stream: SessionStream, gone: Promise<SessionEnd>): Promise<SessionEnd | undefined> {
    this.#stream = stream;
    this.#payDebts(stream);
    let unacknowledged = 0;
    try {
      for await (const event of stream.events) {
        if (event.type === "output") {
          this.#log.append(event);
          this.lastOutputAtMs = Date.now();
          unacknowledged += event.data.length;
          if (unacknowledged >= ACKNOWLEDGE_BYTES) {
            stream.acknowledge(this.#log.offsets);
            unacknowledged = 0;
          }
          if (this.#log.isFull) await Promise.race([this.#log.room(), gone]);
        } else if (event.type === "input_taken") this.#input.taken(event.offset);
        else if (event.type === "started") this.#resend(stream, event.inputTaken);
        else if (event.type === "exit") return { kind: "exit", exit: event.exit };
        else return { kind: "lost", code: event.code, reason: event.message };
      }
      return undefined;
    } catch (error) {
      if (error instanceof OffsetError || (error instanceof GuestError && error.code === "guest_protocol")) {
        return { kind: "lost", code: "guest_protocol", reason: "the guest's agent broke the protocol" };
      }
      if (error instanceof GuestError && error.code === "guest_session_unknown") {
        return { kind: "lost", code: "session_not_found", reason: "the guest no longer knows the command" };
      }
      if (!(error instanceof GuestError)) throw error;
      return undefined;
    } finally {
      this.#stream = undefined;
      stream.close();
    }
  }

  /** A new stream over a new link, from the offsets held here; undefined when the VM is gone. */
  async #relink(gone: Promise<SessionEnd>): Promise<SessionStream | undefined> {
    const deadline = performance.now() + RELINK_TIMEOUT_MS;
    let vmGone = false;
    void gone.then(() => {
      vmGone = true;
    });
    for (let pauseMs = RELINK_PAUSE_MS; performance.now() < deadline; pauseMs = Math.min(pauseMs * 2, RELINK_PAUSE_MAX_MS)) {
      await Promise.race([sleep(pauseMs), gone]);
      if (vmGone) return undefined;
      try {
        const link = await this.#options.machine.link();
        return await link.attachSession(this.id, this.#log.offsets);
      } catch (error) {
        if (error instanceof GuestError && error.code === "guest_session_unknown") throw error;
        this.#options.logger.debug({ event: "exec.relink", sessionId: this.id, err: error }, "no link yet");
      }
    }
    throw new GuestError("guest_timeout", "the guest's agent did not come back");
  }

  #payDebts(stream: SessionStream): void {
    if (this.#owed.size) stream.resize(this.#owed.size);
    for (const name of this.#owed.signals) stream.signal(name);
    this.#owed = { size: undefined, signals: [] };
  }

  #resend(stream: SessionStream, inputTaken: number): void {
    this.#input.taken(inputTaken);
    for (const chunk of this.#input.pending())
      void stream.sendInput(chunk.offset, chunk.data).catch(ignore("sent again over the next link"));
    if (this.#input.ended) stream.endInput(this.#input.length);
  }

  #finish(end: SessionEnd): void {
    if (this.#end) return;
    this.#end = end;
    this.#runOn?.abort();
    this.#log.close();
    this.#input.abandon();
    this.#settle(end);
    this.#options.onEnd(end);
  }

  /** EXEC-7: a command without clients is ended when its run-on time is over. */
  #startRunOn(): void {
    const limitMs = this.#options.runAfterDisconnectMs;
    if (limitMs === undefined || this.#end) return;
    const controller = new AbortController();
    this.#runOn = controller;
    void (async () => {
      await sleep(limitMs, { signal: controller.signal });
      this.signal("TERM");
      await sleep(KILL_AFTER_MS, { signal: controller.signal });
      this.signal("KILL");
    })().catch(ignore("a client came back or the command ended"));
  }
}
