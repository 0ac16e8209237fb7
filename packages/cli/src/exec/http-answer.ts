/**
 * Reads an HTTP/1.1 answer and keeps the borders of its chunks, which every ready-made client
 * hides: in exec over HTTP one chunk is one frame. Pure; any splitting of the bytes gives the
 * same pieces.
 */

/** Longest head, bytes. */
const HEAD_BYTES_MAX = 64 * 1024;
/** Largest chunk, bytes. */
const CHUNK_BYTES_MAX = 16 * 1024 * 1024;
/** Longest line of a chunk's size with its extensions, bytes. */
const SIZE_LINE_BYTES_MAX = 1024;

export type AnswerPiece =
  /** Names of headers in lower case. */
  | { kind: "head"; status: number; headers: ReadonlyMap<string, string> }
  /** One chunk; a piece of the body when it is not chunked. */
  | { kind: "chunk"; data: Uint8Array }
  | { kind: "end" };

/** The bytes are no HTTP answer. */
export class AnswerError extends Error {
  override readonly name = "AnswerError";
}

type State = "head" | "size" | "data" | "data-end" | "trailer" | "rest" | "done";

export class AnswerReader {
  #state: State = "head";
  #kept: Buffer = Buffer.alloc(0);
  #chunkBytes = 0;
  /** Bytes left of a body with a length; undefined: until the connection ends. */
  #left: number | undefined;

  /** Pieces that `bytes` complete. Throws `AnswerError`. */
  push(bytes: Uint8Array): AnswerPiece[] {
    this.#kept = this.#kept.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.#kept, bytes]);
    const pieces: AnswerPiece[] = [];
    while (this.#step(pieces));
    return pieces;
  }

  /** Pieces that the end of the connection completes. Throws `AnswerError` when it came too early. */
  end(): AnswerPiece[] {
    if (this.#state === "done") return [];
    if (this.#state === "rest" && this.#left === undefined) {
      this.#state = "done";
      return [{ kind: "end" }];
    }
    throw new AnswerError("the connection ended in the middle of the answer");
  }

  /** One step; false when more bytes are needed. */
  #step(pieces: AnswerPiece[]): boolean {
    switch (this.#state) {
      case "head":
        return this.#head(pieces);
      case "size":
        return this.#size();
      case "data":
        return this.#data(pieces);
      case "data-end": {
        if (this.#kept.length < 2) return false;
        if (this.#take(2).toString("latin1") !== "\r\n") throw new AnswerError("a chunk is longer than its size");
        this.#state = "size";
        return true;
      }
      case "trailer":
        return this.#trailer(pieces);
      case "rest":
        return this.#rest(pieces);
      case "done":
        return false;
    }
  }

  #head(pieces: AnswerPiece[]): boolean {
    const end = this.#kept.indexOf("\r\n\r\n");
    if (end < 0) {
      if (this.#kept.length > HEAD_BYTES_MAX) throw new AnswerError("the head of the answer does not end");
      return false;
    }
    const [statusLine = "", ...lines] = this.#take(end + 4)
      .toString("latin1")
      .trimEnd()
      .split("\r\n");
    const status = Number(/^HTTP\/1\.[01] ([1-5]\d\d)/.exec(statusLine)?.[1]);
    if (!status) throw new AnswerError("the answer is not HTTP/1.1");
    if (status < 200) return true; // an interim answer: the real one follows
    const headers = new Map(
      lines.map((line) => {
        const colon = line.indexOf(":");
        return [line.slice(0, Math.max(colon, 0)).toLowerCase(), line.slice(colon + 1).trim()];
      }),
    );
    pieces.push({ kind: "head", status, headers });
    const length = headers.get("content-length");
    if (/\bchunked\b/i.test(headers.get("transfer-encoding") ?? "")) this.#state = "size";
    else {
      this.#state = "rest";
      this.#left = length === undefined ? undefined : Number(length);
      if (status === 204 || this.#left === 0) this.#finish(pieces);
    }
    return true;
  }

  #size(): boolean {
    const end = this.#kept.indexOf("\r\n");
    if (end < 0) {
      if (this.#kept.length > SIZE_LINE_BYTES_MAX) throw new AnswerError("a chunk has no size");
      return false;
    }
    const digits = /^([0-9a-f]{1,8})\s*(?:;.*)?$/i.exec(
      this.#take(end + 2)
        .toString("latin1")
        .trimEnd(),
    )?.[1];
    this.#chunkBytes = Number.parseInt(digits ?? "", 16);
    if (digits === undefined || this.#chunkBytes > CHUNK_BYTES_MAX) throw new AnswerError("a chunk has no usable size");
    this.#state = this.#chunkBytes === 0 ? "trailer" : "data";
    return true;
  }

  #data(pieces: AnswerPiece[]): boolean {
    if (this.#kept.length < this.#chunkBytes) return false;
    pieces.push({ kind: "chunk", data: this.#take(this.#chunkBytes) });
    this.#state = "data-end";
    return true;
  }

  #trailer(pieces: AnswerPiece[]): boolean {
    const end = this.#kept.indexOf("\r\n");
    if (end < 0) {
      if (this.#kept.length > HEAD_BYTES_MAX) throw new AnswerError("the trailer does not end");
      return false;
    }
    this.#take(end + 2);
    if (end === 0) this.#finish(pieces);
    return true;
  }

  #rest(pieces: AnswerPiece[]): boolean {
    if (this.#kept.length === 0) return false;
    const data = this.#take(Math.min(this.#kept.length, this.#left ?? this.#kept.length));
    pieces.push({ kind: "chunk", data });
    if (this.#left !== undefined) {
      this.#left -= data.length;
      if (this.#left === 0) this.#finish(pieces);
    }
    return true;
  }

  #finish(pieces: AnswerPiece[]): void {
    this.#state = "done";
    pieces.push({ kind: "end" });
  }

  #take(length: number): Buffer {
    const taken = this.#kept.subarray(0, length);
    this.#kept = this.#kept.subarray(length);
    return taken;
  }
}
