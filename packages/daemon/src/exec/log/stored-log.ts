/**
 * The log of a session that ended under this or an earlier daemon: read-only, its files are looked
 * at only when somebody reads.
 */
import type { Logger } from "@sprited/base";
import type { LogPiece } from "../exec.ts";
import { FileReader, type LogView } from "./file-reader.ts";
import { scanSegments } from "./segment-scan.ts";
import { type LogReader, type Offsets, positionOf, type ReadableLog, type ReadOptions } from "./session-log.ts";

export interface StoredLogOptions {
  directory: string;
  /** Offsets of the oldest byte kept and after the last one, as they were recorded at the end. */
  startOffsets: Offsets;
  offsets: Offsets;
  logger: Logger;
}

export class StoredLog implements ReadableLog {
  readonly startOffsets: Offsets;
  readonly offsets: Offsets;
  readonly #options: StoredLogOptions;

  constructor(options: StoredLogOptions) {
    this.#options = options;
    this.startOffsets = options.startOffsets;
    this.offsets = options.offsets;
  }

  get start(): number {
    return positionOf(this.startOffsets);
  }

  get end(): number {
    return positionOf(this.offsets);
  }

  read(options: ReadOptions): LogReader {
    const { from } = options;
    const position =
      from === "end" ? this.end : typeof from === "object" && "position" in from ? Math.min(from.position, this.end) : this.start;
    const over = new AbortController();
    return { position, pieces: this.#pieces(position, over.signal), close: () => over.abort() };
  }

  /** Everything from `position` to the recorded end; what the files lack is a gap. */
  async *#pieces(position: number, over: AbortSignal): AsyncGenerator<LogPiece, void, void> {
    const { directory, logger } = this.#options;
    const segments = await scanSegments(directory);
    const view: LogView = {
      segments,
      visible: this.offsets,
      isClosed: true,
      inMemory: () => undefined,
      changed: async () => {},
      moved: () => {},
      damaged: (path) =>
        logger.warn({ event: "exec.log_damaged", path }, "a log file holds something else than a log; readers are told a gap"),
    };
    const reader = new FileReader(view, position);
    if (over.aborted) return;
    over.addEventListener("abort", () => reader.close(), { once: true });
    yield* reader.pieces({ follow: false });
  }
}
