/**
 * Follows one session in a guest over as many links as it takes: output into the log, input from
 * the queue, until the command's exit or the end of the guest's memory (EXEC-2, EXEC-5, EXEC-12).
 *
 * Invariants: the only reader of session streams and the only writer of the log; input has one
 * sender at a time; nothing here wakes a sprite.
 */
import { ignore, type Logger, sleep } from "@sprited/base";
import type { TerminalSize } from "@sprited/protocol/guest";
import { GuestError, type SessionStream } from "../guest/index.ts";
import type { GuestLife } from "../sprite/index.ts";
import type { SessionEnd } from "./exec.ts";
import type { InputQueue } from "./input-queue.ts";
import { OffsetError, positionOf, type SessionLog } from "./log/index.ts";

/** Output kept safe here before the agent is told so, bytes; a quarter of what it keeps. */
const ACKNOWLEDGE_BYTES = 256 * 1024;
/** Pause before a new link is tried, ms; doubles up to the limit. */
const RELINK_PAUSE_MS = 50;
const RELINK_PAUSE_MAX_MS = 2_000;
/** How long an awake guest may leave its sessions without a link before they are given up, ms. */
const RELINK_TIMEOUT_MS = 120_000;
/** Signals kept for a guest that cannot be reached. */
const OWED_SIGNALS_MAX = 16;

const BROKEN_PROTOCOL: SessionEnd = { kind: "lost", code: "guest_protocol", reason: "the guest's agent broke the protocol" };
const UNKNOWN_TO_GUEST: SessionEnd = { kind: "lost", code: "session_not_found", reason: "the guest no longer knows the command" };
/** The guest has no such session, though its memory goes on. */
export function isUnknownToGuest(end: SessionEnd): boolean {
  return end === UNKNOWN_TO_GUEST;
}

const NO_ANSWER: SessionEnd = { kind: "lost", code: "guest_unresponsive", reason: "the guest's agent did not come back" };

export interface FollowerOptions {
  id: string;
  life: GuestLife;
  log: SessionLog;
  input: InputQueue;
  /** Output came. */
  onOutput(): void;
  logger: Logger;
}

export class Follower {
  readonly #options: FollowerOptions;
  readonly #stop = new AbortController();
  #stream: SessionStream | undefined;
  #acknowledged = 0;
  /** Asked for while no stream was there; sent to the next one. */
  #owed: { size: TerminalSize | undefined; signals: string[] } = { size: undefined, signals: [] };

  constructor(options: FollowerOptions) {
    this.#options = options;
    options.log.onSafe(() => this.#acknowledge());
  }

  /** Whether the guest can be reached now. */
  get isLinked(): boolean {
    return this.#stream !== undefined;
  }

  signal(name: string): void {
    if (this.#stream) this.#stream.signal(name);
    else if (this.#owed.signals.length < OWED_SIGNALS_MAX) this.#owed.signals.push(name);
  }

  resize(size: TerminalSize): void {
    if (this.#stream) this.#stream.resize(size);
    else this.#owed.size = size;
  }

  /** Lets go of the session: it runs on in the guest, `follow` never resolves. */
  stop(): void {
    this.#stop.abort();
    this.#stream?.close();
  }

  /** Follows from `first`, or from a link of the life, to the end. Rejects only when something here is broken. */
  async follow(first: SessionStream | undefined): Promise<SessionEnd> {
    const { life } = this.#options;
    const over = new AbortController();
    const gone = life.ended.then((end): SessionEnd => {
      over.abort();
      return { kind: "lost", code: end.code, reason: end.reason };
    });
    const signal = AbortSignal.any([over.signal, this.#stop.signal]);
    let next: SessionStream | { end: SessionEnd } | undefined = first;
    for (;;) {
      if (next) {
        const end = await this.#followOne(next, gone);
        if (end) return end;
        // A guest that takes streams and drops them must not keep us busy.
        await sleep(RELINK_PAUSE_MS, { signal }).catch(ignore("looked at below"));
      }
      next = await this.#relink(signal);
      if (this.#stop.signal.aborted) return await new Promise<never>(() => {});
      if (!next) return await gone;
      if ("end" in next) return next.end;
    }
  }

  /** Follows one stream; undefined when the link broke and the command may live on. */
  async #followOne(stream: SessionStream, gone: Promise<SessionEnd>): Promise<SessionEnd | undefined> {
    const { log, input } = this.#options;
    this.#stream = stream;
    this.#payDebts(stream);
    try {
      for await (const event of stream.events) {
        if (event.type === "output") {
          log.append(event);
          this.#options.onOutput();
          if (log.isFull) await Promise.race([log.room(), gone]);
        } else if (event.type === "input_taken") input.taken(event.offset);
        else if (event.type === "started") {
          input.begin({ taken: event.inputTaken, received: event.inputReceived, ended: event.inputEnded });
          void this.#feed(stream, event.inputReceived).catch(ignore("sent again over the next link"));
        } else if (event.type === "exit") return { kind: "exit", exit: event.exit };
        else return { kind: "lost", code: event.code, reason: event.message };
      }
      return undefined;
    } catch (error) {
      if (error instanceof OffsetError || (error instanceof GuestError && error.code === "guest_protocol")) return BROKEN_PROTOCOL;
      if (error instanceof GuestError && error.code === "guest_session_unknown") return UNKNOWN_TO_GUEST;
      if (!(error instanceof GuestError)) throw error;
      return undefined;
    } finally {
      this.#stream = undefined;
      input.interrupt();
      stream.close();
    }
  }

  /** Sends what is queued from `from` on, then what comes, for as long as the stream lives. */
  async #feed(stream: SessionStream, from: number): Promise<void> {
    const { input } = this.#options;
    let sent = from;
    while (this.#stream === stream) {
      const chunk = input.from(sent);
      if (chunk) {
        await stream.sendInput(chunk.offset, chunk.data);
        sent = chunk.offset + chunk.data.length;
      } else if (input.ended) {
        stream.endInput(input.length);
        return;
      } else await input.changed();
    }
  }

  /** A new stream over a new link, from the offsets held here; undefined when the memory is gone or nobody follows any more. */
  async #relink(signal: AbortSignal): Promise<SessionStream | { end: SessionEnd } | undefined> {
    const { life, log, id, logger } = this.#options;
    let deadline: number | undefined;
    for (let pauseMs = RELINK_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, RELINK_PAUSE_MAX_MS)) {
      if (signal.aborted) return undefined;
      try {
        const link = await life.link({ signal });
        return await link.attachSession(id, log.offsets);
      } catch (error) {
        if (signal.aborted) return undefined;
        if (error instanceof GuestError && error.code === "guest_session_unknown") return { end: UNKNOWN_TO_GUEST };
        // The time in which a sprite sleeps does not count: `link` waits through it.
        deadline ??= performance.now() + RELINK_TIMEOUT_MS;
        if (performance.now() >= deadline) return { end: NO_ANSWER };
        logger.debug({ event: "exec.relink", sessionId: id, err: error }, "no link yet");
      }
      await sleep(pauseMs, { signal }).catch(ignore("looked at above"));
    }
  }

  #acknowledge(): void {
    const { safe } = this.#options.log;
    if (!this.#stream || positionOf(safe) - this.#acknowledged < ACKNOWLEDGE_BYTES) return;
    this.#acknowledged = positionOf(safe);
    this.#stream.acknowledge(safe);
  }

  #payDebts(stream: SessionStream): void {
    if (this.#owed.size) stream.resize(this.#owed.size);
    for (const name of this.#owed.signals) stream.signal(name);
    this.#owed = { size: undefined, signals: [] };
  }
}
