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
  started: 0x81,
  output: 0x82,
  exit: 0x83,
  failed: 0x84,
  inputTaken: 0x85,
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

/** Cuts a byte stream into frames, whatever the chunks. Throws `FrameError`; then it is spent. */
export class FrameDecoder {
  #pending: Uint8Array = new Uint8Array(0);

  *push(chunk: Uint8Array): Generator<Frame> {
    let bytes = chunk;
    if (this.#pending.length > 0) {
      bytes = new Uint8Array(this.#pending.length + chunk.length);
      bytes.set(this.#pending);
      bytes.set(chunk, this.#pending.length);
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = 0;
    while (bytes.length - at >= HEADER_BYTES) {
      const type = bytes[at] as number;
      const length = view.getUint32(at + 1);
      if (!KNOWN.has(type)) throw new FrameError(`unknown frame type ${type}`);
      if (length > GUEST_LIMITS.frameBytesMax) throw new FrameError(`frame of ${length} bytes, limit ${GUEST_LIMITS.frameBytesMax}`);
      if (bytes.length - at < HEADER_BYTES + length) break;
      const payload = bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + length);
      at += HEADER_BYTES + length;
      yield { type: type as FrameType, payload };
    }
    this.#pending = bytes.subarray(at);
  }

  /** Bytes of an unfinished frame; non-zero at the end of a stream means it was cut. */
  get pendingBytes(): number {
    return this.#pending.length;
  }
}
