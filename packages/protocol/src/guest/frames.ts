import { GUEST_LIMITS } from "./generation.ts";

/**
 * The frame codec of session streams (FRAME-1..3): `u8 type | u32 length | payload`.
 * Pure: bytes in, frames out. Works in any JavaScript runtime.
 */
export const FrameType = {
  start: 0x01,
  resume: 0x02,
  input: 0x03,
  inputEnd: 0x04,
  resize: 0x05,
  signal: 0x06,
  ack: 0x07,
  fileRequest: 0x11,
  fileInput: 0x12,
  fileEntry: 0x13,
  fileInputEnd: 0x14,
  started: 0x81,
  output: 0x82,
  exit: 0x83,
  failed: 0x84,
  inputTaken: 0x85,
  fileRecord: 0x91,
  fileData: 0x92,
  fileFailed: 0x93,
  fileDone: 0x94,
} as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];

const KNOWN = new Set<number>(Object.values(FrameType));
const HEADER_BYTES = 5;

export interface Frame {
  type: FrameType;
  /** A view into the bytes that were pushed; copy it to keep it. */
  payload: Uint8Array;
}

/** The peer broke FRAME-1; the stream must be ended. */
export class FrameError extends Error {
  override readonly name = "FrameError";
}

/** One frame as bytes. `parts` are concatenated. Throws `FrameError` above the limit. */
export function encodeFrame(type: FrameType, ...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  if (length > GUEST_LIMITS.frameBytesMax) throw new FrameError(`frame of ${length} bytes, limit ${GUEST_LIMITS.frameBytesMax}`);
  const bytes = new Uint8Array(HEADER_BYTES + length);
  bytes[0] = type;
  new DataView(bytes.buffer).setUint32(1, length);
  let at = HEADER_BYTES;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Header alone, so that a large payload can be written after it without a copy. */
export function encodeFrameHeader(type: FrameType, length: number): Uint8Array {
  if (length > GUEST_LIMITS.frameBytesMax) throw new FrameError(`frame of ${length} bytes, limit ${GUEST_LIMITS.frameBytesMax}`);
  const bytes = new Uint8Array(HEADER_BYTES);
  bytes[0] = type;
  new DataView(bytes.buffer).setUint32(1, length);
  return bytes;
}

/** A frame whose payload is JSON. */
export function encodeJsonFrame(type: FrameType, value: unknown): Uint8Array {
  return encodeFrame(type, new TextEncoder().encode(JSON.stringify(value)));
}

/** Big-endian `u64`s, one after another. Offsets stay below 2^53. */
export function encodeOffsets(...offsets: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(8 * offsets.length);
  const view = new DataView(bytes.buffer);
  offsets.forEach((offset, index) => view.setBigUint64(index * 8, BigInt(offset)));
  return bytes;
}

/** Reads the `u64` at `at`. Throws `FrameError` when it is missing or above 2^53. */
export function decodeOffset(payload: Uint8Array, at = 0): number {
  if (payload.length < at + 8) throw new FrameError("offset missing");
  const value = new DataView(payload.buffer, payload.byteOffset, payload.byteLength).getBigUint64(at);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new FrameError("offset above 2^53");
  return Number(value);
}

/** JSON of a payload, still to be validated. Throws `FrameError` when it is not JSON. */
export function decodeJson(payload: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));
  } catch (cause) {
    throw new FrameError("payload is not JSON", { cause });
  }
}

/** First allocation for a frame that spans chunks, bytes; grows with what really arrived. */
const PARTIAL_BYTES_MIN = 64 * 1024;

/**
 * Cuts a byte stream into frames, whatever the chunks. Throws `FrameError`; then it is spent.
 * Every byte is copied at most a constant number of times, and memory follows the bytes that
 * arrived, not the length a header claims.
 */
export class FrameDecoder {
  #header = new Uint8Array(HEADER_BYTES);
  #headerBytes = 0;
  #type: FrameType = FrameType.start;
  /** Payload length of the frame being put together, bytes. */
  #length = 0;
  #payload = new Uint8Array(0);
  #payloadBytes = 0;
  #spent = false;

  *push(chunk: Uint8Array): Generator<Frame> {
    if (this.#spent) throw new FrameError("the stream was broken before");
    let at = 0;
    while (at < chunk.length || this.#isComplete()) {
      if (this.#headerBytes < HEADER_BYTES) {
        at += this.#takeHeader(chunk, at);
        continue;
      }
      const missing = this.#length - this.#payloadBytes;
      const available = Math.min(missing, chunk.length - at);
      if (this.#payloadBytes === 0 && available === missing) {
        const payload = chunk.subarray(at, at + available);
        at += available;
        this.#headerBytes = 0;
        yield { type: this.#type, payload };
        continue;
      }
      this.#takePayload(chunk.subarray(at, at + available));
      at += available;
      if (!this.#isComplete()) continue;
      const payload = this.#payload.subarray(0, this.#length);
      this.#payload = new Uint8Array(0);
      this.#payloadBytes = 0;
      this.#headerBytes = 0;
      yield { type: this.#type, payload };
    }
  }

  /** Bytes of an unfinished frame; non-zero at the end of a stream means it was cut. */
  get pendingBytes(): number {
    return this.#headerBytes + this.#payloadBytes;
  }

  #isComplete(): boolean {
    return this.#headerBytes === HEADER_BYTES && this.#payloadBytes === this.#length;
  }

  #takeHeader(chunk: Uint8Array, at: number): number {
    const taken = Math.min(HEADER_BYTES - this.#headerBytes, chunk.length - at);
    this.#header.set(chunk.subarray(at, at + taken), this.#headerBytes);
    this.#headerBytes += taken;
    if (this.#headerBytes < HEADER_BYTES) return taken;
    const type = this.#header[0] as number;
    const length = new DataView(this.#header.buffer).getUint32(1);
    if (!KNOWN.has(type)) throw this.#broken(`unknown frame type ${type}`);
    if (length > GUEST_LIMITS.frameBytesMax) throw this.#broken(`frame of ${length} bytes, limit ${GUEST_LIMITS.frameBytesMax}`);
    this.#type = type as FrameType;
    this.#length = length;
    this.#payloadBytes = 0;
    return taken;
  }

  #takePayload(bytes: Uint8Array): void {
    const end = this.#payloadBytes + bytes.length;
    if (end > this.#payload.length) {
      const grown = new Uint8Array(Math.min(this.#length, Math.max(PARTIAL_BYTES_MIN, 2 * end)));
      grown.set(this.#payload.subarray(0, this.#payloadBytes));
      this.#payload = grown;
    }
    this.#payload.set(bytes, this.#payloadBytes);
    this.#payloadBytes = end;
  }

  #broken(why: string): FrameError {
    this.#spent = true;
    return new FrameError(why);
  }
}
