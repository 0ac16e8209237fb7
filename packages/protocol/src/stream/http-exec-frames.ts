/**
 * Exec over plain HTTP with real frames, for clients that ask for `HTTP_EXEC_CONTENT_TYPE`
 * (docs/spec/http-exec.md). Pure; any JavaScript runtime.
 *
 * ```
 * u8 type | u32 length, big endian | payload
 * ```
 *
 * Invariants: where the body is cut on its way means nothing; a type that is not known is skipped,
 * so that types can be added; a length is checked before anything is kept.
 */

/** Media type of the framed answer; a client names it in `Accept`. */
export const HTTP_EXEC_CONTENT_TYPE = "application/vnd.sprited.exec+stream";
/** Largest payload a reader takes, bytes. */
export const HTTP_EXEC_PAYLOAD_BYTES_MAX = 1024 * 1024;
/** Largest output payload a server sends, bytes. */
export const HTTP_EXEC_OUTPUT_BYTES_MAX = 64 * 1024;

const HEAD_BYTES = 5;

/** Output and exit have the ids of the WebSocket's frames. */
const Type = { keepAlive: 0, stdout: 1, stderr: 2, exit: 3, sessionInfo: 5, error: 6, gap: 7, inputAck: 8 } as const;

/** One frame. */
export type HttpExecFrame =
  | { kind: "keep_alive" }
  | { kind: "output"; stream: "stdout" | "stderr"; data: Uint8Array }
  | { kind: "exit"; code: number }
  /** First of all frames; fields as in the WebSocket's `session_info`. */
  | { kind: "session_info"; info: { session_id: string } & Record<string, unknown> }
  /** Why the outcome is not known; an exit follows. */
  | { kind: "error"; error: string; message: string }
  /** Output of log positions `from` to `to` is no longer kept. */
  | { kind: "gap"; from: number; to: number }
  /** This client's input up to `offset` is safe: it need not be kept. Only with `input_acks=true`. */
  | { kind: "input_ack"; offset: number };

/** The bytes are no frames. */
export class HttpExecFrameError extends Error {
  override readonly name = "HttpExecFrameError";
}

export function encodeHttpExecFrame(frame: HttpExecFrame): Uint8Array<ArrayBuffer> {
  switch (frame.kind) {
    case "keep_alive":
      return bytesOf(Type.keepAlive, new Uint8Array());
    case "output":
      return bytesOf(Type[frame.stream], frame.data);
    case "exit":
      return bytesOf(Type.exit, Uint8Array.of(frame.code & 0xff));
    case "session_info":
      return bytesOf(Type.sessionInfo, json(frame.info));
    case "error":
      return bytesOf(Type.error, json({ error: frame.error, message: frame.message }));
    case "gap":
      return bytesOf(Type.gap, json({ from: frame.from, to: frame.to }));
    case "input_ack":
      return bytesOf(Type.inputAck, json({ offset: frame.offset }));
  }
}

/** Collects pieces of a body into frames, however it was cut. */
export class HttpExecDecoder {
  #kept: Uint8Array = new Uint8Array();

  /** True in the middle of a frame: a body that ends now is incomplete. */
  get isInside(): boolean {
    return this.#kept.length > 0;
  }

  /** Frames that `bytes` complete. Throws `HttpExecFrameError`. */
  push(bytes: Uint8Array): HttpExecFrame[] {
    const all = this.#kept.length === 0 ? bytes : joined(this.#kept, bytes);
    const frames: HttpExecFrame[] = [];
    let at = 0;
    while (all.length - at >= HEAD_BYTES) {
      const length = new DataView(all.buffer, all.byteOffset + at + 1, 4).getUint32(0);
      if (length > HTTP_EXEC_PAYLOAD_BYTES_MAX) throw new HttpExecFrameError(`a frame of ${length} bytes`);
      const end = at + HEAD_BYTES + length;
      if (end > all.length) break;
      const frame = frameOf(all[at] ?? 0, all.slice(at + HEAD_BYTES, end));
      if (frame) frames.push(frame);
      at = end;
    }
    this.#kept = all.slice(at);
    return frames;
  }
}

function frameOf(type: number, payload: Uint8Array): HttpExecFrame | undefined {
  switch (type) {
    case Type.keepAlive:
      return { kind: "keep_alive" };
    case Type.stdout:
      return { kind: "output", stream: "stdout", data: payload };
    case Type.stderr:
      return { kind: "output", stream: "stderr", data: payload };
    case Type.exit:
      if (payload.length !== 1) throw new HttpExecFrameError("an exit that is not one byte");
      return { kind: "exit", code: payload[0] ?? 0 };
    case Type.sessionInfo: {
      const info = objectOf(payload);
      return { kind: "session_info", info: { ...info, session_id: String(info["session_id"] ?? "") } };
    }
    case Type.error: {
      const { error, message } = objectOf(payload);
      return { kind: "error", error: String(error ?? "internal"), message: String(message ?? "") };
    }
    case Type.gap: {
      const { from, to } = objectOf(payload);
      return { kind: "gap", from: Number(from), to: Number(to) };
    }
    case Type.inputAck: {
      const offset = Number(objectOf(payload)["offset"]);
      if (!Number.isSafeInteger(offset) || offset < 0) throw new HttpExecFrameError("an input_ack without an offset");
      return { kind: "input_ack", offset };
    }
    default:
      return undefined;
  }
}

function bytesOf(type: number, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(HEAD_BYTES + payload.length);
  bytes[0] = type;
  new DataView(bytes.buffer).setUint32(1, payload.length);
  bytes.set(payload, HEAD_BYTES);
  return bytes;
}

function json(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

function objectOf(payload: Uint8Array): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(payload));
  } catch (cause) {
    throw new HttpExecFrameError("a frame that should be JSON", { cause });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new HttpExecFrameError("a frame that should be a JSON object");
}

function joined(left: Uint8Array, right: Uint8Array): Uint8Array {
  const all = new Uint8Array(left.length + right.length);
  all.set(left);
  all.set(right, left.length);
  return all;
}
