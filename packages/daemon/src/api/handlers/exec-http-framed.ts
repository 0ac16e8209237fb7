/**
 * The framed answer of exec over HTTP (docs/spec/http-exec.md): every frame has a length, a silent
 * command shows signs of life, an end without outcome says why.
 */
import { ignore } from "@sprited/base";
import {
  encodeHttpExecFrame,
  exitByte,
  HTTP_EXEC_CONTENT_TYPE,
  HTTP_EXEC_OUTPUT_BYTES_MAX,
  type HttpExecFrame,
} from "@sprited/protocol/stream";
import type { ExecSession, LogPiece } from "../../exec/exec.ts";
import type { ApiContext } from "../handler.ts";
import { sessionInfo } from "../session-info.ts";
import type { OpenedExec } from "../socket/exec-opening.ts";
import { LOST_EXIT_CODE } from "../socket/lost.ts";

/** True when the client named the framed type; a wildcard is not enough, because official clients send one. */
export function wantsFrames(accept: string | null): boolean {
  return (accept ?? "").split(",").some((part) => part.split(";")[0]?.trim().toLowerCase() === HTTP_EXEC_CONTENT_TYPE);
}

/** The body, some frames a piece. Ends early when `gone` aborts. */
export async function* framedOutput(
  context: ApiContext,
  { session, attachment, isOwner, inputAcks, client }: OpenedExec,
  gone: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const info = { ...sessionInfo(session, { isOwner }), offset: attachment.position };
  yield encodeHttpExecFrame({
    kind: "session_info",
    info: { ...info, ...(inputAcks ? { input_offset: session.inputOf(client).accepted } : {}) },
  });
  const news = new News(attachment.output);
  const acks = inputAcks ? new InputAcks(session, client) : undefined;
  using _acks = acks?.tell(() => news.tell());
  for (;;) {
    if (!(await news.orSilence(context, gone))) {
      if (gone.aborted) return;
      yield encodeHttpExecFrame({ kind: "keep_alive" });
      continue;
    }
    const step = news.take();
    const frames = [...(acks?.take() ?? []), ...(step?.value ? framesOf(step.value) : [])];
    if (frames.length > 0) yield Buffer.concat(frames.map(encodeHttpExecFrame));
    if (step?.done) break;
  }
  const end = await attachment.ended;
  if (end.kind === "lost") yield encodeHttpExecFrame({ kind: "error", error: end.code, message: end.reason });
  yield encodeHttpExecFrame({ kind: "exit", code: end.kind === "exit" ? exitByte(end.exit) : LOST_EXIT_CODE });
}

function framesOf(piece: LogPiece): HttpExecFrame[] {
  if (piece.kind === "gap") return [{ kind: "gap", from: piece.position, to: piece.position + piece.bytes }];
  const frames: HttpExecFrame[] = [];
  for (let at = 0; at < piece.data.length; at += HTTP_EXEC_OUTPUT_BYTES_MAX)
    frames.push({ kind: "output", stream: piece.stream, data: piece.data.subarray(at, at + HTTP_EXEC_OUTPUT_BYTES_MAX) });
  return frames;
}

/** Output and other things to tell, whichever comes first. */
class News {
  readonly #pieces: AsyncIterator<LogPiece>;
  #step: IteratorResult<LogPiece> | undefined;
  #failure: { error: unknown } | undefined;
  #isAsked = false;
  #told = Promise.withResolvers<void>();

  constructor(output: AsyncIterable<LogPiece>) {
    this.#pieces = output[Symbol.asyncIterator]();
  }

  /** There is something to take. */
  tell(): void {
    this.#told.resolve();
  }

  /** False when nothing came for the keep-alive time, or when `gone` aborts. */
  async orSilence(context: ApiContext, gone: AbortSignal): Promise<boolean> {
    this.#ask();
    const over = new AbortController();
    const silence = context.clock
      .sleep(context.timings.keepAliveMs, { signal: AbortSignal.any([over.signal, gone]) })
      .catch(ignore("over"));
    try {
      return await Promise.race([this.#told.promise.then(() => !gone.aborted), silence.then(() => false)]);
    } finally {
      over.abort();
    }
  }

  /** The next step of the output, when it is there. Throws what reading it threw. */
  take(): IteratorResult<LogPiece> | undefined {
    if (this.#failure) throw this.#failure.error;
    const step = this.#step;
    this.#step = undefined;
    if (step) this.#isAsked = false;
    this.#told = Promise.withResolvers();
    return step;
  }

  /** Asks for the next piece once, however often something else is told before it comes. */
  #ask(): void {
    if (this.#isAsked) return;
    this.#isAsked = true;
    this.#pieces.next().then(
      (step) => {
        this.#step = step;
        this.tell();
      },
      (error: unknown) => {
        this.#failure = { error };
        this.tell();
      },
    );
  }
}

/** Which input of a client is safe, several steps in one frame. */
class InputAcks {
  readonly #session: ExecSession;
  readonly #client: string | undefined;
  #told = 0;

  constructor(session: ExecSession, client: string | undefined) {
    this.#session = session;
    this.#client = client;
  }

  /** Calls `listener` now and whenever input was taken, until it is disposed of. */
  tell(listener: () => void): Disposable {
    const stop = this.#session.onInputTaken(listener);
    listener();
    return { [Symbol.dispose]: stop };
  }

  take(): HttpExecFrame[] {
    const { taken } = this.#session.inputOf(this.#client);
    return taken > this.#told ? [{ kind: "input_ack", offset: (this.#told = taken) }] : [];
  }
}
