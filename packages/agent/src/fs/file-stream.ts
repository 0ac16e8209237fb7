/**
 * One file call on the link (FILE-1..4): frames of the host drive it, records and bytes go back.
 * Reading stops while the worker is behind, and so does the worker while the link is.
 */
import { constants, type ServerHttp2Stream } from "node:http2";
import {
  decodeJson,
  encodeFrameHeader,
  encodeJsonFrame,
  type FileFailure,
  fileRequest,
  type Frame,
  FrameDecoder,
  FrameError,
  FrameType,
  treeEntry,
} from "@sprited/protocol/guest";
import { RefusedError } from "../session/registry.ts";
import { serveWatch } from "./watch.ts";
import type { CallEvents, FileWorkers, RunningCall } from "./workers.ts";

/** Input on its way to the worker, bytes. */
const INPUT_BYTES_MAX = 2 * 1024 * 1024;
/** What an entry and a record count as, bytes; the worker counts the same. */
const RECORD_BYTES = 16 * 1024;

/** Serves one call. Never throws. `ready`: resolves when there is a Linux to work in. */
export function serveFileStream(stream: ServerHttp2Stream, workers: FileWorkers, ready: () => Promise<void>): void {
  new FileStream(stream, workers, ready);
}

class FileStream implements CallEvents {
  readonly #stream: ServerHttp2Stream;
  readonly #workers: FileWorkers;
  readonly #ready: () => Promise<void>;
  readonly #decoder = new FrameDecoder();
  #isBegun = false;
  #isOver = false;
  #call: RunningCall | undefined;
  /** Frames that came before the call was begun. */
  #early: Frame[] = [];
  #inputBytes = 0;

  constructor(stream: ServerHttp2Stream, workers: FileWorkers, ready: () => Promise<void>) {
    this.#stream = stream;
    this.#workers = workers;
    this.#ready = ready;
    stream.respond({ ":status": 200, "content-type": "application/octet-stream" });
    stream.on("data", (chunk: Buffer) => this.#receive(chunk));
    stream.once("close", () => this.#left());
  }

  record(record: object): void {
    this.#send([encodeJsonFrame(FrameType.fileRecord, record)], RECORD_BYTES);
  }

  data(bytes: Uint8Array): void {
    this.#send([encodeFrameHeader(FrameType.fileData, bytes.length), bytes], bytes.length);
  }

  taken(bytes: number): void {
    this.#inputBytes -= bytes;
    if (this.#inputBytes < INPUT_BYTES_MAX) this.#stream.resume();
  }

  done(): void {
    this.#end(encodeJsonFrame(FrameType.fileDone, {}));
  }

  failed(failure: FileFailure): void {
    this.#end(encodeJsonFrame(FrameType.fileFailed, { ...failure, path: failure.path?.slice(0, 8000) ?? null }));
  }

  #end(last: Uint8Array): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#stream.writable) this.#stream.end(last);
    // What the host still sends is not for anyone.
    this.#stream.resume();
  }

  #send(parts: readonly Uint8Array[], weight: number): void {
    if (this.#isOver || !this.#stream.writable) return;
    this.#stream.cork();
    for (const part of parts.slice(0, -1)) this.#stream.write(part);
    this.#stream.write(parts.at(-1), () => this.#call?.sent(weight));
    this.#stream.uncork();
  }

  #left(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#call?.abort();
  }

  #receive(chunk: Buffer): void {
    if (this.#isOver) return;
    try {
      for (const frame of this.#decoder.push(chunk)) this.#handle(frame);
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      this.#stream.close(constants.NGHTTP2_PROTOCOL_ERROR);
    }
  }

  #handle(frame: Frame): void {
    if (!this.#isBegun) {
      this.#isBegun = true;
      void this.#begin(frame);
    } else if (this.#call) this.#apply(frame, this.#call);
    else {
      this.#early.push({ type: frame.type, payload: Uint8Array.from(frame.payload) });
      this.#hold(frame.payload.length);
    }
  }

  /** Never rejects. */
  async #begin(frame: Frame): Promise<void> {
    try {
      if (frame.type !== FrameType.fileRequest) throw new RefusedError("invalid", "the first frame must be a request");
      const parsed = fileRequest.safeParse(decodeJson(frame.payload));
      if (!parsed.success) throw new RefusedError("invalid", "the request does not fit its schema");
      await this.#ready();
      if (this.#isOver) return;
      if (parsed.data.op === "watch") this.#call = serveWatch(this.#workers, parsed.data, this);
      else this.#call = this.#workers.begin(parsed.data, this);
      const early = this.#early;
      this.#early = [];
      this.#inputBytes = 0;
      for (const one of early) this.#apply(one, this.#call);
      this.taken(0);
    } catch (error) {
      const code = error instanceof RefusedError ? error.code : "internal";
      const message = error instanceof Error ? error.message : "failed";
      this.failed({ code: `AGENT_${code.toUpperCase()}`, message: message.slice(0, 1000), path: null, offset: null });
    }
  }

  #apply(frame: Frame, call: RunningCall): void {
    switch (frame.type) {
      case FrameType.fileInput:
        this.#hold(frame.payload.length);
        call.data(Uint8Array.from(frame.payload));
        return;
      case FrameType.fileEntry: {
        const parsed = treeEntry.safeParse(decodeJson(frame.payload));
        if (!parsed.success) throw new FrameError("an entry does not fit its schema");
        this.#hold(RECORD_BYTES);
        call.entry(parsed.data);
        return;
      }
      case FrameType.fileInputEnd:
        call.end();
        return;
      default:
        throw new FrameError(`frame type ${frame.type} is not for a file call`);
    }
  }

  #hold(bytes: number): void {
    this.#inputBytes += bytes;
    if (this.#inputBytes >= INPUT_BYTES_MAX) this.#stream.pause();
  }
}
