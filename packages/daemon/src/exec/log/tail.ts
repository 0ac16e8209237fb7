/**
 * The newest output of a log in memory, shared by all readers that keep up. Bounded; the data
 * lies in the buffers it was written from.
 */
import type { OutputPiece } from "./file-reader.ts";

/** Most that is held per log, bytes. */
export const TAIL_BYTES_MAX = 256 * 1024;
/** What holding a piece costs beside its data, bytes. */
const PIECE_COST_BYTES = 256;

export class Tail {
  #pieces: OutputPiece[] = [];
  #bytes = 0;

  push(piece: OutputPiece): void {
    this.#pieces.push(piece);
    this.#bytes += piece.data.length + PIECE_COST_BYTES;
    let gone = 0;
    while (this.#bytes > TAIL_BYTES_MAX && gone < this.#pieces.length - 1) {
      this.#bytes -= (this.#pieces[gone]?.data.length ?? 0) + PIECE_COST_BYTES;
      gone += 1;
    }
    if (gone > 0) this.#pieces.splice(0, gone);
  }

  /** The piece that holds a position. */
  find(position: number): OutputPiece | undefined {
    const oldest = this.#pieces[0];
    if (!oldest || position < oldest.position) return undefined;
    return this.#pieces.findLast((piece) => piece.position <= position && position < piece.position + piece.data.length);
  }

  clear(): void {
    this.#pieces = [];
    this.#bytes = 0;
  }
}
