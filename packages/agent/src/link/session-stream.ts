/**
 * One session stream (FRAME-1..3): frames of the host drive a session, its output becomes frames.
 * A broken rule ends the stream, never the session.
 */
import type { ServerHttp2Stream } from "node:http2";
import { constants } from "node:http2";
import {
  decodeJson,
  decodeOffset,
  encodeFrame,
  encodeFrameHeader,
  encodeJsonFrame,
  encodeOffsets,
  type Frame,
  FrameDecoder,
  FrameError,
  FrameType,
  type SessionExit,
  sessionResume,
  sessionSignal,
  type SessionStart,
  sessionStart,
  terminalSize,
} from "@sprited/protocol/guest";
import { InputError } from "../session/input-pipe.ts";
import type { OutputPiece } from "../session/output-log.ts";
import { RefusedError } from "../session/registry.ts";
import type { Session, SessionReader } from "../session/session.ts";

const OUTPUT_HEADER_BYTES = 5 + 1 + 8;

/** How a stream gets its session from the first frame. Rejects with `RefusedError`. */
export type Opening = { kind: "start"; open: (start: SessionStart) => Promise<Session> } | { kind: "attach"; session: Session };

/** Serves one stream until it ends. Never rejects. */
export function serveSessionStream(stream: ServerHttp2Stream, opening: Opening): void {
  new SessionStreamServer(stream, opening);
}

class SessionStreamServer implements SessionReader {
  readonly #stream: ServerHttp2Stream;
  readonly #decoder = new FrameDecoder();
  #opening: Opening | undefined;
  #session: Session | undefined;
  /** Frames that came while the command was being started. */
  #early: Frame[] = [];
  #takenToSend = -1;

  constructor(stream: ServerHttp2Stream, opening: Opening) {
    this.#stream = stream;
    this.#opening = opening;
    stream.respond({ ":status": 200, "content-type": "application/octet-stream" });
    stream.on("data", (chunk: Buffer) => this.#receive(chunk));
    stream.on("drain", () => this.#session?.pump());
    stream.once("close", () => this.#session?.detach(this));
  }

  get isReady(): boolean {
    return !this.#stream.writableNeedDrain && !this.#stream.destroyed;
  }

  output(piece: OutputPiece): void {
    const header = Buffer.allocUnsafe(OUTPUT_HEADER_BYTES);
    header.set(encodeFrameHeader(FrameType.output, 9 + piece.data.length));
    header[5] = piece.stream === "stdout" ? 1 : 2;
    header.writeBigUInt64BE(BigInt(piece.offset), 6);
    this.#stream.cork();
    this.#stream.write(header);
    this.#stream.write(piece.data);
    this.#stream.uncork();
  }

  inputTaken(offset: number): void {
    const isWaiting = this.#takenToSend >= 0;
    this.#takenToSend = offset;
    // One frame for all that is taken in this turn.
    if (!isWaiting) setImmediate(() => this.#sendTaken());
  }

  exit(exit: SessionExit): void {
    this.#sendTaken();
    this.#stream.end(encodeJsonFrame(FrameType.exit, exit));
  }

  replaced(): void {
    this.#stream.end();
  }

  #sendTaken(): void {
    if (this.#takenToSend < 0) return;
    const offset = this.#takenToSend;
    this.#takenToSend = -1;
    if (this.#stream.writable) this.#stream.write(encodeFrame(FrameType.inputTaken, encodeOffsets(offset)));
  }

  #receive(chunk: Buffer): void {
    try {
      for (const frame of this.#decoder.push(chunk)) this.#handle(frame);
    } catch (error) {
      if (!(error instanceof FrameError || error instanceof InputError)) throw error;
      this.#stream.close(constants.NGHTTP2_PROTOCOL_ERROR);
    }
  }

  #handle(frame: Frame): void {
    if (this.#opening) {
      const opening = this.#opening;
      this.#opening = undefined;
      if (opening.kind === "start") this.#start(frame, opening.open);
      else this.#resume(frame, opening.session);
      return;
    }
    if (this.#session) this.#apply(frame, this.#session);
    else this.#early.push({ type: frame.type, payload: Uint8Array.from(frame.payload) });
  }

  #start(frame: Frame, open: (start: SessionStart) => Promise<Session>): void {
    if (frame.type !== FrameType.start) throw new FrameError("the first frame must be start");
    const start = parse(sessionStart, frame);
    open(start).then(
      (session) => {
        if (this.#stream.destroyed) return;
        this.#begin(session, { stdout: 0, stderr: 0 });
      },
      (error: unknown) => this.#fail(error),
    );
  }

  #resume(frame: Frame, session: Session): void {
    if (frame.type !== FrameType.resume) throw new FrameError("the first frame must be resume");
    this.#begin(session, parse(sessionResume, frame));
  }

  #begin(session: Session, from: { stdout: number; stderr: number }): void {
    if (!session.attach(this, from)) {
      this.#fail(new RefusedError("invalid", "output from those offsets on is not kept"));
      return;
    }
    this.#session = session;
    this.#stream.write(encodeJsonFrame(FrameType.started, startedOf(session)));
    const early = this.#early;
    this.#early = [];
    try {
      for (const frame of early) this.#apply(frame, session);
    } catch (error) {
      if (!(error instanceof FrameError || error instanceof InputError)) throw error;
      this.#stream.close(constants.NGHTTP2_PROTOCOL_ERROR);
      return;
    }
    session.pump();
  }

  #fail(error: unknown): void {
    const refused =
      error instanceof RefusedError ? error : new RefusedError("internal", "the command could not be started", { cause: error });
    if (this.#stream.writable)
      this.#stream.end(encodeJsonFrame(FrameType.failed, { code: refused.code, message: refused.message.slice(0, 4096) }));
  }

  #apply(frame: Frame, session: Session): void {
    switch (frame.type) {
      case FrameType.input:
        session.input.write(decodeOffset(frame.payload), frame.payload.subarray(8));
        return;
      case FrameType.inputEnd:
        session.input.end(decodeOffset(frame.payload));
        return;
      case FrameType.resize:
        session.resize(parse(terminalSize, frame));
        return;
      case FrameType.signal:
        session.signal(parse(sessionSignal, frame).signal);
        return;
      case FrameType.ack:
        session.acknowledge({ stdout: decodeOffset(frame.payload), stderr: decodeOffset(frame.payload, 8) });
        return;
      default:
        throw new FrameError(`frame type ${frame.type} is not for the agent now`);
    }
  }
}

function startedOf({ pid, input }: Session): object {
  return {
    pid,
    input: input.taken,
    ...(input.received > input.taken ? { received: input.received } : {}),
    ...(input.isComplete ? { input_ended: true } : {}),
  };
}

function parse<T>(schema: { safeParse(value: unknown): { success: true; data: T } | { success: false } }, frame: Frame): T {
  const parsed = schema.safeParse(decodeJson(frame.payload));
  if (!parsed.success) throw new FrameError("payload does not fit its schema");
  return parsed.data;
}
