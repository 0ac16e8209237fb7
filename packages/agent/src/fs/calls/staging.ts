/**
 * A file that is being received and has no name yet: it vanishes with its descriptor, also when
 * the whole VM ends. Where the file system has no unnamed files it has a name of ours.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import { errnoOf } from "./call.ts";
import { elevated } from "./caller.ts";
import { type At, type Fd, linkUnnamed, O, openAt, rename, unlink } from "./syscalls.ts";

/** Zeros in pieces of this size become holes, bytes. */
const HOLE_BYTES = 64 * 1024;
const ZEROS = Buffer.alloc(HOLE_BYTES);

export class Staging implements Disposable {
  readonly file: Fd;
  /** The directory is not the caller's to write: what was received is copied into the file that is there. */
  readonly inPlace: boolean;
  readonly #directory: Fd;
  /** Undefined without a name. */
  #name: string | undefined;

  private constructor(parts: { file: Fd; directory: Fd; name: string | undefined; inPlace: boolean }) {
    this.file = parts.file;
    this.inPlace = parts.inPlace;
    this.#directory = parts.directory;
    this.#name = parts.name;
  }

  /** Makes one in `directory`. `canOverwrite`: the caller may write the file that is there. */
  static open(directory: Fd, options: { canOverwrite: boolean; isMount: boolean }): Staging {
    const own = openAt(directory, ".", O.PATH | O.DIRECTORY);
    try {
      try {
        return new Staging({ ...make(own), directory: own, inPlace: options.isMount });
      } catch (error) {
        const code = errnoOf(error);
        if (!options.canOverwrite || (code !== "EACCES" && code !== "EPERM")) throw error;
        return new Staging({ ...elevated(() => make(own)), directory: own, inPlace: true });
      }
    } catch (error) {
      own[Symbol.dispose]();
      throw error;
    }
  }

  /** Writes at `offset`; with `sparse`, whole pieces of zeros are left out. */
  write(bytes: Uint8Array, offset: number, sparse: boolean): void {
    if (!sparse) return writeAll(this.file, bytes, offset);
    for (let at = 0; at < bytes.length; at += HOLE_BYTES) {
      const piece = bytes.subarray(at, at + HOLE_BYTES);
      if (!ZEROS.subarray(0, piece.length).equals(piece)) writeAll(this.file, piece, offset + at);
    }
  }

  /** Gives it the name `at`, in the place of what has it. */
  moveTo(at: At, options: { isNew: boolean }): void {
    if (this.#name === undefined) {
      if (options.isNew && this.#linkNew(at)) return;
      const name = temporaryName();
      linkUnnamed(this.file, { directory: this.#directory, name });
      this.#name = name;
    }
    rename({ directory: this.#directory, name: this.#name }, at);
    this.#name = undefined;
  }

  #linkNew(at: At): boolean {
    try {
      linkUnnamed(this.file, at);
      return true;
    } catch (error) {
      if (errnoOf(error) === "EEXIST") return false;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    const name = this.#name;
    this.#name = undefined;
    try {
      if (name !== undefined) elevated(() => unlink(this.#directory, name));
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
    } finally {
      this.file[Symbol.dispose]();
      this.#directory[Symbol.dispose]();
    }
  }
}

/** What file systems without unnamed files answer. */
const NO_UNNAMED: ReadonlySet<string> = new Set(["EOPNOTSUPP", "EISDIR", "EINVAL", "ENOENT"]);

function make(directory: Fd): { file: Fd; name: string | undefined } {
  try {
    return { file: openAt(directory, ".", O.TMPFILE | O.RDWR, 0o600), name: undefined };
  } catch (error) {
    if (!NO_UNNAMED.has(errnoOf(error) ?? "")) throw error;
  }
  const name = temporaryName();
  return { file: openAt(directory, name, O.CREAT | O.EXCL | O.RDWR, 0o600), name };
}

/** A name that nobody else has. */
export function temporaryName(): string {
  return `.sprite-${randomBytes(8).toString("hex")}`;
}

export function writeAll(file: Fd, bytes: Uint8Array, offset: number | null): void {
  for (let at = 0; at < bytes.length;) at += fs.writeSync(file.number, bytes, at, bytes.length - at, offset === null ? null : offset + at);
}
