/**
 * Framing of exec over plain HTTP. A frame is one chunk of the body: `u8 id | payload`, without a
 * length; the client takes whatever one read returns as one frame. So frames are few (output is
 * gathered), small (one read returns all of it) and spaced in time (the sender's part).
 */
import { encodeFrame, StreamId } from "./exec-messages.ts";

/** Largest frame with its id, bytes: one TLS record. */
export const HTTP_EXEC_FRAME_BYTES_MAX = 16 * 1024;
/** Least time between two frames, ms: measured to keep a client from reading two as one. */
export const HTTP_EXEC_FRAME_SPACING_MS = 40;
/** Output gathered before the producer is held back, bytes. */
export const HTTP_EXEC_GATHER_BYTES_MAX = 256 * 1024;

/** Output that waits for its turn; neighbours of one stream are merged, their order is kept. */
export class OutputGatherer {
  #pieces: { stream: "stdout" | "stderr"; data: Uint8Array }[] = [];
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  get isFull(): boolean {
    return this.#bytes >= HTTP_EXEC_GATHER_BYTES_MAX;
  }

  add(stream: "stdout" | "stderr", data: Uint8Array): void {
    if (data.length === 0) return;
    this.#pieces.push({ stream, data });
    this.#bytes += data.length;
  }

  /** The next frame, or undefined when nothing waits. */
  take(): Uint8Array<ArrayBuffer> | undefined {
    const first = this.#pieces[0];
    if (!first) return undefined;
    const parts: Uint8Array[] = [];
    let length = 0;
    while (length < HTTP_EXEC_FRAME_BYTES_MAX - 1) {
      const piece = this.#pieces[0];
      if (!piece || piece.stream !== first.stream) break;
      const room = HTTP_EXEC_FRAME_BYTES_MAX - 1 - length;
      const part = piece.data.subarray(0, room);
      parts.push(part);
      length += part.length;
      if (part.length === piece.data.length) this.#pieces.shift();
      else piece.data = piece.data.subarray(room);
    }
    this.#bytes -= length;
    const payload = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      payload.set(part, at);
      at += part.length;
    }
    return encodeFrame(first.stream === "stdout" ? StreamId.stdout : StreamId.stderr, payload);
  }
}
