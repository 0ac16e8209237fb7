/**
 * The daemon's end of one file call (FILE-1..4). Every frame of the guest is validated; a
 * violation ends the whole link. Reading slowly holds the guest back, and so does the guest.
 */
import { constants, type ClientHttp2Stream } from "node:http2";
import { DeadlineError, ignore, passedOn, withDeadline } from "@sprited/base";
import {
  decodeJson,
  encodeFrame,
  encodeJsonFrame,
  FILE_LIMITS,
  type FileFailure,
  fileFailure,
  type FileRecord,
  fileRecord,
  type FileRequest,
  FrameDecoder,
  FrameError,
  FrameType,
  type TreeEntry,
} from "@sprited/protocol/guest";
import { GuestError } from "./errors.ts";

/** What the guest answers, in order. `bytes` is a view: used before the next answer is asked for. */
export type FileAnswer = { kind: "record"; record: FileRecord } | { kind: "data"; bytes: Uint8Array };

/** One call on files of a guest. */
export interface GuestFileCall {
  /** Ends after the guest has said that it is done. Throws `GuestFileError`, or `GuestError` when the link breaks. */
  readonly answers: AsyncIterable<FileAnswer>;
  /** Sends bytes; resolves when the transport takes more, or nobody listens any more. */
  send(bytes: Uint8Array): Promise<void>;
  sendEntry(entry: TreeEntry): Promise<void>;
  endInput(): void;
  /** Ends the call wherever it is. Idempotent. */
  close(): void;
}

/** The guest refused: a fact of its file system. */
export class GuestFileError extends Error {
  override readonly name = "GuestFileError";
  readonly failure: FileFailure;
  constructor(failure: FileFailure) {
    super(failure.message);
    this.failure = failure;
  }
}

export interface FileCallParts {
  stream: ClientHttp2Stream;
  request: FileRequest;
  /** Longest wait for the first answer, ms. */
  firstAnswerMs: number;
  signal: AbortSignal | undefined;
  onViolation: (error: GuestError) => void;
  /** Why the link is gone; undefined when it lives on. */
  linkFailure: () => Promise<Error | undefined>;
}

/** Begins a call on an open stream. */
export function beginFileCall(parts: FileCallParts): GuestFileCall {
  const { stream, request } = parts;
  stream.write(encodeJsonFrame(FrameType.fileRequest, request));
  const write = async (frame: Uint8Array): Promise<void> => {
    if (stream.destroyed || !stream.writable || stream.write(frame)) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        stream.off("drain", done);
        stream.off("close", done);
        stream.off("end", done);
        resolve();
      };
      stream.once("drain", done);
      stream.once("close", done);
      // The guest has answered already: it takes no more.
      stream.once("end", done);
    });
  };
  const close = (): void => {
    if (!stream.destroyed) stream.close(constants.NGHTTP2_CANCEL);
  };
  parts.signal?.addEventListener("abort", close, { once: true });
  stream.once("close", () => parts.signal?.removeEventListener("abort", close));
  return {
    answers: read(parts, close),
    async send(bytes) {
      passedOn(bytes.length);
      for (let at = 0; at < bytes.length; at += FILE_LIMITS.dataBytesMax) {
        await write(encodeFrame(FrameType.fileInput, bytes.subarray(at, at + FILE_LIMITS.dataBytesMax)));
      }
    },
    sendEntry: (entry) => write(encodeJsonFrame(FrameType.fileEntry, entry)),
    endInput() {
      if (!stream.destroyed && stream.writable) stream.write(encodeFrame(FrameType.fileInputEnd));
    },
    close,
  };
}

async function* read(parts: FileCallParts, close: () => void): AsyncGenerator<FileAnswer, void, void> {
  const { stream } = parts;
  const decoder = new FrameDecoder();
  let status = 200;
  stream.once("response", (headers) => (status = Number(headers[":status"])));
  try {
    const chunks = (stream as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
    for (let isFirst = true; ; isFirst = false) {
      const step = isFirst ? await first(parts, chunks) : await chunks.next();
      // An agent older than file calls, or one that does not want any now.
      if (status !== 200) throw new GuestError("guest_refused", `the guest's agent refused a file call with ${status}`);
      if (step.done) break;
      passedOn(step.value.length);
      for (const { type, payload } of decoder.push(step.value)) {
        if (type === FrameType.fileDone) return;
        if (type === FrameType.fileFailed) throw new GuestFileError(fileFailure.parse(decodeJson(payload)));
        if (type === FrameType.fileData) yield { kind: "data", bytes: payload };
        else if (type === FrameType.fileRecord) yield { kind: "record", record: fileRecord.parse(decodeJson(payload)) };
        else throw new FrameError(`frame type ${type} is not for the host`);
      }
    }
    throw new Error("the answer was cut");
  } catch (error) {
    throw await explain(parts, error);
  } finally {
    close();
  }
}

async function first(parts: FileCallParts, chunks: AsyncIterator<Buffer>): Promise<IteratorResult<Buffer>> {
  const next = chunks.next();
  next.catch(ignore("thrown by whoever waits for it, unless its deadline was first"));
  return await withDeadline(
    "the guest's first answer to a file call",
    { timeoutMs: parts.firstAnswerMs, signal: parts.signal },
    () => next,
  );
}

async function explain(parts: FileCallParts, error: unknown): Promise<unknown> {
  if (error instanceof GuestFileError || error instanceof GuestError) return error;
  if (parts.signal?.aborted) return parts.signal.reason;
  if (error instanceof DeadlineError)
    return new GuestError("guest_timeout", "the guest did not answer a file call in time", { cause: error });
  if (error instanceof FrameError || (error instanceof Error && error.name === "ZodError")) {
    const violation = new GuestError("guest_protocol", "the guest's agent broke the protocol of file calls", { cause: error });
    parts.onViolation(violation);
    return violation;
  }
  return (
    (await parts.linkFailure()) ?? new GuestError("guest_link_lost", "the link to the guest broke during a file call", { cause: error })
  );
}
