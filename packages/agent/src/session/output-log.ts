/**
 * A command's output with offsets (SESS-2, SESS-3): what the host has not acknowledged stays.
 *
 * Invariants: per stream the kept pieces are without gaps and end at `end`; the order of pieces
 * over both streams is the order of `append`; bytes are never changed once readable, and never
 * copied unless a piece is small.
 */
import { assert } from "@sprited/base";

export type StreamName = "stdout" | "stderr";
export type Offsets = Record<StreamName, number>;

export interface OutputPiece {
  stream: StreamName;
  /** Of the first byte. */
  offset: number;
  data: Buffer;
}

/** Pieces below this are gathered, so that a chatty command costs its bytes and not a record for each. */
const SMALL_BYTES = 1024;
const GATHER_BYTES = 8 * 1024;
/** Dropped records are cut off when this many have gathered. */
const COMPACT_AT = 256;

interface Kept {
  order: number;
  offset: number;
  data: Buffer;
  /** Bytes of `data` in use. */
  length: number;
}

class StreamLog {
  readonly pieces: Kept[] = [];
  /** Index of the first piece still kept. */
  first = 0;
  start = 0;
  end = 0;
}

/** Where a reader is. Made by `OutputLog.cursor`. */
export interface OutputCursor {
  next: Offsets;
}

export class OutputLog {
  readonly #streams: Record<StreamName, StreamLog> = { stdout: new StreamLog(), stderr: new StreamLog() };
  #order = 0;
  #retained = 0;
  #last: Kept | undefined;

  /** Bytes kept. */
  get retainedBytes(): number {
    return this.#retained;
  }

  /** Bytes ever appended, per stream. */
  get end(): Offsets {
    return { stdout: this.#streams.stdout.end, stderr: this.#streams.stderr.end };
  }

  /** From where on everything is kept, per stream. */
  get start(): Offsets {
    return { stdout: this.#streams.stdout.start, stderr: this.#streams.stderr.start };
  }

  /** Takes output over; `data` belongs to the log afterwards. */
  append(stream: StreamName, data: Buffer): void {
    if (data.length === 0) return;
    const log = this.#streams[stream];
    this.#retained += data.length;
    const last = this.#last;
    if (last && data.length < SMALL_BYTES && last === log.pieces.at(-1) && last.data.length - last.length >= data.length) {
      data.copy(last.data, last.length);
      last.length += data.length;
      log.end += data.length;
      return;
    }
    let kept: Kept;
    if (data.length < SMALL_BYTES) {
      kept = { order: this.#order, offset: log.end, data: Buffer.allocUnsafeSlow(GATHER_BYTES), length: data.length };
      data.copy(kept.data);
    } else {
      kept = { order: this.#order, offset: log.end, data, length: data.length };
    }
    this.#order += 1;
    this.#last = kept;
    log.pieces.push(kept);
    log.end += data.length;
  }

  /** Drops what is safe with the host. Offsets behind or beyond what is kept change nothing more. */
  acknowledge(offsets: Offsets): void {
    for (const name of ["stdout", "stderr"] as const) {
      const log = this.#streams[name];
      const until = Math.min(offsets[name], log.end);
      for (let piece = log.pieces[log.first]; piece && piece.offset + piece.length <= until; piece = log.pieces[log.first]) {
        this.#retained -= piece.length;
        log.first += 1;
        if (piece === this.#last) this.#last = undefined;
      }
      log.start = log.pieces[log.first]?.offset ?? log.end;
      if (log.first >= COMPACT_AT) {
        log.pieces.splice(0, log.first);
        log.first = 0;
      }
    }
    assert(this.#retained >= 0, "the log keeps a negative number of bytes");
  }

  /** A reader from these offsets on; undefined when bytes behind them are gone or they lie beyond the end. */
  cursor(from: Offsets): OutputCursor | undefined {
    for (const name of ["stdout", "stderr"] as const) {
      const log = this.#streams[name];
      if (from[name] < log.start || from[name] > log.end) return undefined;
    }
    return { next: { ...from } };
  }

  /** The next piece for a reader, in the order of `append`; undefined when it has everything. */
  read(cursor: OutputCursor): OutputPiece | undefined {
    const stdout = this.#pieceAt("stdout", cursor.next.stdout);
    const stderr = this.#pieceAt("stderr", cursor.next.stderr);
    const stream = stdout && (!stderr || stdout.order < stderr.order) ? "stdout" : "stderr";
    const piece = stream === "stdout" ? stdout : stderr;
    if (!piece) return undefined;
    const offset = cursor.next[stream];
    cursor.next[stream] = piece.offset + piece.length;
    return { stream, offset, data: piece.data.subarray(offset - piece.offset, piece.length) };
  }

  #pieceAt(stream: StreamName, offset: number): Kept | undefined {
    const { pieces, first, end } = this.#streams[stream];
    if (offset >= end) return undefined;
    let low = first;
    let high = pieces.length - 1;
    const newest = pieces[high];
    if (newest && offset >= newest.offset) return newest;
    while (low < high) {
      const middle = (low + high) >> 1;
      const piece = pieces[middle] as Kept;
      if (offset < piece.offset + piece.length) high = middle;
      else low = middle + 1;
    }
    return pieces[low];
  }
}
