/** Reads a log for people and programs that want bytes: one stream or both, from an offset (EXEC-20). */
import type { LogPiece, LogQuery } from "../exec.ts";
import type { ReadableLog } from "./session-log.ts";

/** Pieces of the asked stream in order; bytes of it that are gone are told as a gap, also those before the first piece. */
export async function* queryLog(log: ReadableLog, query: LogQuery): AsyncGenerator<LogPiece, void, void> {
  const { stream, offset, follow, signal } = query;
  const from = stream === "all" ? { position: offset } : { stream, offset };
  const reader = log.read({ from, holdsBack: false, follow });
  const stop = (): void => reader.close();
  signal.addEventListener("abort", stop, { once: true });
  try {
    if (signal.aborted) return;
    if (stream === "all") yield* fromPosition(reader.pieces, offset);
    else yield* ofStream(reader.pieces, stream, offset);
  } finally {
    signal.removeEventListener("abort", stop);
    reader.close();
  }
}

/** A position beyond the log's end is waited for. */
async function* fromPosition(pieces: AsyncIterable<LogPiece>, from: number): AsyncGenerator<LogPiece, void, void> {
  for await (const piece of pieces) {
    const skip = Math.max(0, from - piece.position);
    if (skip === 0 || piece.kind === "gap") yield piece;
    else if (skip < piece.data.length)
      yield { ...piece, offset: piece.offset + skip, position: piece.position + skip, data: piece.data.subarray(skip) };
  }
}

async function* ofStream(
  pieces: AsyncIterable<LogPiece>,
  stream: "stdout" | "stderr",
  offset: number,
): AsyncGenerator<LogPiece, void, void> {
  let next = offset;
  for await (const piece of pieces) {
    const isGap = piece.kind === "gap";
    if (!isGap && piece.stream !== stream) continue;
    const at = isGap ? piece.streamEnd[stream] - piece.streamBytes[stream] : piece.offset;
    const end = isGap ? piece.streamEnd[stream] : piece.offset + piece.data.length;
    if (end <= next) continue;
    if (isGap || at > next) yield gapOf(stream, piece.position, (isGap ? end : at) - next, isGap ? end : at);
    if (!isGap) {
      const skip = Math.max(0, next - at);
      yield { ...piece, offset: at + skip, position: piece.position + skip, data: piece.data.subarray(skip) };
    }
    next = end;
  }
}

function gapOf(stream: "stdout" | "stderr", position: number, bytes: number, end: number): LogPiece {
  const only = (count: number): { stdout: number; stderr: number } =>
    stream === "stdout" ? { stdout: count, stderr: 0 } : { stdout: 0, stderr: count };
  return { kind: "gap", position, bytes, streamBytes: only(bytes), streamEnd: only(end) };
}
