import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AnswerError, type AnswerPiece, AnswerReader } from "./http-answer.ts";

/** Cuts `bytes` at the given places and feeds the parts. */
function read(bytes: Uint8Array, cuts: readonly number[] = []): AnswerPiece[] {
  const reader = new AnswerReader();
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((left, right) => left - right), bytes.length];
  const pieces = places.slice(1).flatMap((end, index) => reader.push(bytes.subarray(places[index] ?? 0, end)));
  return [...pieces, ...reader.end()];
}

function chunked(chunks: readonly Uint8Array[], options: { extension?: string; trailer?: string } = {}): Buffer {
  const parts = chunks
    .filter((chunk) => chunk.length > 0)
    .flatMap((chunk) => [`${chunk.length.toString(16)}${options.extension ?? ""}\r\n`, chunk, "\r\n"]);
  return Buffer.concat(
    ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ...parts, `0\r\n${options.trailer ?? ""}\r\n`].map((part) =>
      Buffer.from(part as string),
    ),
  );
}

describe("AnswerReader", () => {
  test("[CLI-28] the borders of chunks are kept, however the bytes arrive", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 8 }),
        fc.array(fc.nat(), { maxLength: 20 }),
        fc.boolean(),
        (chunks, cuts, extras) => {
          const pieces = read(chunked(chunks, extras ? { extension: ";a=b", trailer: "X-Sum: 1\r\n" } : {}), cuts);
          expect(pieces[0]).toMatchObject({ kind: "head", status: 200 });
          expect(pieces.slice(1)).toEqual([...chunks.map((data) => ({ kind: "chunk", data: Buffer.from(data) })), { kind: "end" }]);
        },
      ),
    );
  });

  test("[CLI-8] a refusal with a length is read; an interim answer is skipped", () => {
    const text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nX-A:  b \r\n\r\nnope";
    const pieces = read(Buffer.from(text), [3, 30, 90]);
    expect(pieces[0]).toEqual({
      kind: "head",
      status: 404,
      headers: new Map([
        ["content-length", "4"],
        ["x-a", "b"],
      ]),
    });
    expect(Buffer.concat(pieces.flatMap((piece) => (piece.kind === "chunk" ? [piece.data] : []))).toString()).toBe("nope");
    expect(pieces.at(-1)).toEqual({ kind: "end" });
  });

  test("[CLI-26] an end that comes too early is an error at every byte", () => {
    const whole = chunked([Buffer.from("hello"), Buffer.from("world")]);
    for (let length = 0; length < whole.length; length++) {
      const reader = new AnswerReader();
      reader.push(whole.subarray(0, length));
      expect(() => reader.end()).toThrow(AnswerError);
    }
  });

  test.each([
    "SSH-2.0-OpenSSH\r\n\r\n",
    "HTTP/2 200\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffff\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
  ])("[CLI-28] is refused: %j", (text) => {
    expect(() => new AnswerReader().push(Buffer.from(text))).toThrow(AnswerError);
  });

  test("[CLI-28] neither a head nor a size line is kept without limit", () => {
    expect(() => new AnswerReader().push(Buffer.alloc(70_000, "a"))).toThrow(AnswerError);
    expect(() => new AnswerReader().push(Buffer.from(`HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${"1".repeat(2000)}`))).toThrow(
      AnswerError,
    );
  });
});
