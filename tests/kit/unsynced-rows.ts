/**
 * What of an SQLite database in WAL mode would not survive a power cut: transactions committed with
 * `synchronous=NORMAL` since the last one with `FULL`, whose flush covers all before it. They are
 * taken out of the log as SQLite itself would find it: frames follow each other, and the
 * first that is not whole ends the log.
 */
import fs from "node:fs";

/** Where the log stood, from the header of its index (`-shm`). */
interface LogPosition {
  frames: number;
  salt: string;
  /** Frames that are in the database itself: a checkpoint flushes the log first. */
  copied: number;
}

const INDEX_FRAMES_AT = 16;
const INDEX_SALT_AT = 32;
const INDEX_COPIED_AT = 96;
const LOG_HEADER_BYTES = 32;
const LOG_PAGE_SIZE_AT = 8;
const FRAME_HEADER_BYTES = 24;

export class UnsyncedRows {
  readonly #path: string;
  #flushed: LogPosition | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  /** A transaction is about to be committed that nothing flushes. */
  unflushed(): void {
    this.#flushed ??= positionOf(this.#path);
  }

  /** One was committed and flushed, and all before it. */
  flushed(): void {
    this.#flushed = undefined;
  }

  /**
   * To be called while the database is still open; what it returns puts the files into the state
   * after a power cut, when the database is closed.
   */
  cut(): () => void {
    const flushed = this.#flushed;
    const now = positionOf(this.#path);
    if (!flushed || !now || now.salt !== flushed.salt || now.copied > flushed.frames || now.frames <= flushed.frames) return () => {};
    const [database, log] = [fs.readFileSync(this.#path), fs.readFileSync(`${this.#path}-wal`)];
    const frameBytes = FRAME_HEADER_BYTES + log.readUInt32BE(LOG_PAGE_SIZE_AT);
    log.fill(0, LOG_HEADER_BYTES + flushed.frames * frameBytes);
    return () => {
      fs.writeFileSync(this.#path, database);
      fs.writeFileSync(`${this.#path}-wal`, log);
      fs.rmSync(`${this.#path}-shm`, { force: true });
    };
  }
}

function positionOf(path: string): LogPosition | undefined {
  if (!fs.existsSync(`${path}-shm`)) return undefined;
  const index = fs.readFileSync(`${path}-shm`);
  return {
    frames: index.readUInt32LE(INDEX_FRAMES_AT),
    salt: index.subarray(INDEX_SALT_AT, INDEX_SALT_AT + 8).toString("hex"),
    copied: index.readUInt32LE(INDEX_COPIED_AT),
  };
}
