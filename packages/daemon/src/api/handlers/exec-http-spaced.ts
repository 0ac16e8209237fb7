/**
 * The official framing of exec over HTTP: one chunk is one frame, without a length, so output is
 * gathered and frames are spaced in time (protocol/stream/http-exec.ts).
 */
import { ignore } from "@sprited/base";
import { encodeExit, encodeFrame, exitByte, HTTP_EXEC_FRAME_SPACING_MS, OutputGatherer, StreamId } from "@sprited/protocol/stream";
import type { Attachment, SessionEnd } from "../../exec/exec.ts";
import type { ApiContext } from "../handler.ts";
import { LOST_EXIT_CODE, lostText } from "../socket/lost.ts";

/** The body: each piece is one chunk on the wire. Ends early when the client is gone. */
export function spacedFrames(context: ApiContext, attachment: Attachment, clientGone: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
  return frames(context, new Source(attachment, clientGone), attachment.ended);
}

/** The frames of a session, each at least the spacing after the one before; the last pause is before the end of the body. */
async function* frames(context: ApiContext, source: Source, ended: Promise<SessionEnd>): AsyncGenerator<Uint8Array, void, void> {
  let lastMs = -Infinity;
  const spaced = async (): Promise<void> => {
    const waitMs = lastMs + HTTP_EXEC_FRAME_SPACING_MS - context.clock.monotonicMs();
    if (waitMs > 0) await context.clock.sleep(Math.ceil(waitMs));
  };
  while (await source.hasOutput()) {
    await spaced();
    const frame = source.take();
    if (frame) yield frame;
    lastMs = context.clock.monotonicMs();
  }
  if (source.clientGone.aborted) return;
  const end = await ended;
  await spaced();
  if (end.kind === "lost") {
    yield encodeFrame(StreamId.stderr, Buffer.from(lostText(end, { tty: false })));
    lastMs = context.clock.monotonicMs();
    await spaced();
  }
  yield encodeExit(end.kind === "exit" ? exitByte(end.exit) : LOST_EXIT_CODE);
  lastMs = context.clock.monotonicMs();
  await spaced();
}

/** Output between the attachment, which is read ahead up to a bound, and the frames. */
class Source {
  readonly clientGone: AbortSignal;
  readonly #gatherer = new OutputGatherer();
  readonly #reading: Promise<void>;
  #ended = false;
  #onChange: () => void = () => {};
  #onTaken: () => void = () => {};

  constructor(attachment: Attachment, clientGone: AbortSignal) {
    this.clientGone = clientGone;
    clientGone.addEventListener("abort", () => {
      this.#onChange();
      this.#onTaken();
    });
    this.#reading = this.#read(attachment);
    this.#reading.catch(ignore("thrown again by hasOutput"));
  }

  /** Waits for output; false when there will be none. Throws when the attachment did. */
  async hasOutput(): Promise<boolean> {
    while (this.#gatherer.bytes === 0 && !this.#ended && !this.clientGone.aborted) {
      await new Promise<void>((resolve) => (this.#onChange = resolve));
    }
    if (this.#gatherer.bytes > 0) return !this.clientGone.aborted;
    if (this.#ended) await this.#reading;
    return false;
  }

  take(): Uint8Array | undefined {
    const frame = this.#gatherer.take();
    this.#onTaken();
    return frame;
  }

  /** Reads the attachment to its end; waits while the gatherer is full. */
  async #read(attachment: Attachment): Promise<void> {
    try {
      for await (const chunk of attachment.output) {
        if (this.clientGone.aborted) return;
        if (chunk.kind === "gap") {
          this.#gatherer.add("stderr", Buffer.from(`sprited: ${chunk.bytes} bytes of output are missing here\n`));
          continue;
        }
        this.#gatherer.add(chunk.stream, chunk.data);
        this.#onChange();
        while (this.#gatherer.isFull && !this.clientGone.aborted) await new Promise<void>((resolve) => (this.#onTaken = resolve));
      }
    } finally {
      this.#ended = true;
      this.#onChange();
    }
  }
}
