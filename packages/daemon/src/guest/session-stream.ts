/**
 * The daemon's end of one session stream (FRAME-1..3). Every frame of the guest is validated:
 * types, schemas, and that offsets follow each other without gap. A violation ends the whole link.
 */
import type { ClientHttp2Stream } from "node:http2";
import { constants } from "node:http2";
import { passedOn } from "@sprited/base";
import {
  decodeJson,
  decodeOffset,
  encodeFrame,
  encodeJsonFrame,
  encodeOffsets,
  type Frame,
  FrameDecoder,
  FrameError,
  FrameType,
  GUEST_LIMITS,
  guestError,
  sessionExit,
  sessionStarted,
  type TerminalSize,
} from "@sprited/protocol/guest";
import { GuestError } from "./errors.ts";
import type { SessionEvent, SessionStream } from "./link.ts";

/** Largest input frame that is sent, bytes. */
const INPUT_FRAME_BYTES = 256 * 1024;

export interface GuestSessionStreamOptions {
  stream: ClientHttp2Stream;
  /** Offsets the first output bytes must have. */
  from: { stdout: number; stderr: number };
  /** Ends the link because the guest broke the protocol. */
  onViolation: (error: GuestError) => void;
  /** Why the link is gone; undefined when it lives on. */
  linkFailure: () => Promise<Error | undefined>;
}

export class GuestSessionStream implements SessionStream {
  events: AsyncIterable<SessionEvent>;
  readonly #options: GuestSessionStreamOptions;
  readonly #stream: ClientHttp2Stream;
  readonly #next: { stdout: number; stderr: number };
  #isStarted = false;
  #inputTaken = 0;
  /** End of the input that was sent. */
  #inputSent = 0;
  #waiting: (() => void)[] = [];

  constructor(options: GuestSessionStreamOptions) {
    this.#options = options;
    this.#stream = options.stream;
    this.#next = { ...options.from };
    this.#stream.once("close", () => this.#wake());
    this.events = this.#read();
  }

  /** Waits for the agent's first word; `events` still begins with it. Call before anyone reads. Throws what `events` throws. */
  async begun(): Promise<SessionEvent | undefined> {
    const rest = this.events[Symbol.asyncIterator]();
    const first = await rest.next();
    this.events = (async function* () {
      if (!first.done) yield first.value;
      yield* { [Symbol.asyncIterator]: () => rest };
    })();
    return first.done ? undefined : first.value;
  }

  async sendInput(offset: number, data: Uint8Array): Promise<void> {
    let at = 0;
    while (at < data.length) {
      await this.#requireOpen();
      const room = this.#inputTaken + GUEST_LIMITS.inputWindowBytes - (offset + at);
      if (room <= 0 || !this.#isStarted) {
        await new Promise<void>((resolve) => this.#waiting.push(resolve));
        continue;
      }
      const part = data.subarray(at, at + Math.min(room, INPUT_FRAME_BYTES));
      await this.#write(encodeFrame(FrameType.input, encodeOffsets(offset + at), part));
      at += part.length;
      this.#inputSent = Math.max(this.#inputSent, offset + at);
    }
  }

  endInput(offset: number): void {
    this.#send(encodeFrame(FrameType.inputEnd, encodeOffsets(offset)));
  }

  resize(size: TerminalSize): void {
    this.#send(encodeJsonFrame(FrameType.resize, { cols: size.cols, rows: size.rows }));
  }

  signal(name: string): void {
    this.#send(encodeJsonFrame(FrameType.signal, { signal: name }));
  }

  acknowledge(offsets: { stdout: number; stderr: number }): void {
    this.#send(encodeFrame(FrameType.ack, encodeOffsets(offsets.stdout, offsets.stderr)));
  }

  close(): void {
    this.#stream.close(constants.NGHTTP2_CANCEL);
  }

  async *#read(): AsyncGenerator<SessionEvent> {
    const decoder = new FrameDecoder();
    try {
      for await (const chunk of this.#stream as AsyncIterable<Buffer>) {
        passedOn(chunk.length);
        for (const frame of decoder.push(chunk)) {
          const event = this.#validate(frame);
          yield event;
          if (event.type === "exit" || event.type === "failed") return;
        }
      }
    } catch (error) {
      throw await this.#explain(error);
    } finally {
      this.#stream.close(constants.NGHTTP2_CANCEL);
    }
    if (decoder.pendingBytes > 0) throw await this.#explain(new FrameError("the stream was cut inside a frame"));
    throw (await this.#options.linkFailure()) ?? new GuestError("guest_link_lost", "the session stream ended before the command");
  }

  #validate(frame: Frame): SessionEvent {
    const { payload } = frame;
    if (frame.type === FrameType.failed) {
      const { code, message } = parse(guestError, payload);
      return { type: "failed", code, message };
    }
    if (frame.type === FrameType.started) {
      if (this.#isStarted) throw new FrameError("started twice");
      const { pid, input, received = input, input_ended: inputEnded = false } = parse(sessionStarted, payload);
      if (received < input || received > input + GUEST_LIMITS.inputWindowBytes) throw new FrameError("input beyond the window");
      this.#isStarted = true;
      this.#inputTaken = input;
      this.#inputSent = Math.max(this.#inputSent, received);
      this.#wake();
      return { type: "started", pid, inputTaken: input, inputReceived: received, inputEnded };
    }
    if (!this.#isStarted) throw new FrameError(`frame type ${frame.type} before started`);
    switch (frame.type) {
      case FrameType.output:
        return this.#output(payload);
      case FrameType.exit: {
        const exit = parse(sessionExit, payload);
        if ((exit.code === null) === (exit.signal === null)) throw new FrameError("an exit has either a code or a signal");
        return { type: "exit", exit };
      }
      case FrameType.inputTaken: {
        const offset = decodeOffset(payload);
        if (offset < this.#inputTaken || offset > this.#inputSent) throw new FrameError("input taken that was never sent");
        this.#inputTaken = offset;
        this.#wake();
        return { type: "input_taken", offset };
      }
      default:
        throw new FrameError(`frame type ${frame.type} is not for the host`);
    }
  }

  #output(payload: Uint8Array): SessionEvent {
    const stream = payload[0] === 1 ? "stdout" : payload[0] === 2 ? "stderr" : undefined;
    if (!stream) throw new FrameError("output of an unknown stream");
    const offset = decodeOffset(payload, 1);
    const data = payload.subarray(9);
    if (offset !== this.#next[stream]) throw new FrameError(`output at ${offset}, expected ${this.#next[stream]}`);
    this.#next[stream] = offset + data.length;
    return { type: "output", stream, offset, data };
  }

  /** What a failed read means to the caller; tells the link when it was the guest's doing. */
  async #explain(error: unknown): Promise<unknown> {
    if (error instanceof FrameError) {
      const violation = new GuestError("guest_protocol", "the guest's agent broke the protocol", { cause: error });
      this.#options.onViolation(violation);
      return violation;
    }
    const failure = await this.#options.linkFailure();
    if (failure) return failure;
    return new GuestError("guest_link_lost", "the session stream broke", { cause: error });
  }

  async #write(bytes: Uint8Array): Promise<void> {
    if (this.#stream.write(bytes)) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.#stream.off("drain", done);
        this.#stream.off("close", done);
        resolve();
      };
      this.#stream.on("drain", done);
      this.#stream.on("close", done);
    });
  }

  #send(bytes: Uint8Array): void {
    if (this.#stream.writable) this.#stream.write(bytes);
  }

  async #requireOpen(): Promise<void> {
    if (this.#stream.writable) return;
    throw (await this.#options.linkFailure()) ?? new GuestError("guest_link_lost", "the session stream is closed");
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }
}

function parse<T>(schema: { safeParse(value: unknown): { success: true; data: T } | { success: false } }, payload: Uint8Array): T {
  const parsed = schema.safeParse(decodeJson(payload));
  if (!parsed.success) throw new FrameError("payload does not fit its schema");
  return parsed.data;
}
