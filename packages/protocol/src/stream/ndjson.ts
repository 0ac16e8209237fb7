/** NDJSON: one JSON object per line. Lines we send stay below what the strictest client takes. */

/** Longest line we send, bytes; one official client stops reading at 64 KiB. */
export const NDJSON_LINE_BYTES_MAX = 60 * 1024;

/** One line with its end. */
export function encodeNdjsonLine(value: unknown): string {
  return `${JSON.stringify(value)}\n`;
}

/** A line that is not JSON, or longer than the limit. */
export class NdjsonError extends Error {
  override readonly name = "NdjsonError";
}

/** Collects chunks into values. Blank lines are skipped; a last line without end counts. */
export class NdjsonDecoder {
  readonly #lineCharactersMax: number;
  readonly #decoder = new TextDecoder();
  #rest = "";

  constructor(options: { lineCharactersMax?: number } = {}) {
    this.#lineCharactersMax = options.lineCharactersMax ?? 16 * 1024 * 1024;
  }

  /** Values of the lines that `chunk` completes. Throws `NdjsonError`. */
  push(chunk: Uint8Array): unknown[] {
    const lines = (this.#rest + this.#decoder.decode(chunk, { stream: true })).split("\n");
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > this.#lineCharactersMax) throw new NdjsonError("a line without end");
    return parseLines(lines);
  }

  /** The value of a last line without end, if there is one. Throws `NdjsonError`. */
  end(): unknown[] {
    const last = this.#rest + this.#decoder.decode();
    this.#rest = "";
    return parseLines([last]);
  }
}

function parseLines(lines: readonly string[]): unknown[] {
  const values: unknown[] = [];
  for (const line of lines) {
    if (line.trim() === "") continue;
    try {
      values.push(JSON.parse(line));
    } catch (cause) {
      throw new NdjsonError("a line that is not JSON", { cause });
    }
  }
  return values;
}
