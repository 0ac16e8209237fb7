/**
 * The form of every file call: a generator that works in small synchronous steps and yields what
 * it tells, what it needs, or just a breath. Whoever drives it decides when the next step runs,
 * and ends it early by `return`, which releases what it holds.
 */
import type { FileRecord, TreeEntry } from "@sprited/protocol/guest";

export type Step =
  | { kind: "record"; record: FileRecord }
  /** Bytes in a buffer of their own. */
  | { kind: "data"; bytes: Uint8Array<ArrayBuffer> }
  /** Give the next input. */
  | { kind: "input" }
  /** Others may run now. */
  | { kind: "breath" };

export type Input = { kind: "data"; bytes: Uint8Array } | { kind: "entry"; entry: TreeEntry } | { kind: "end" };

export type Work<Result = void> = Generator<Step, Result, Input>;

export const BREATH: Step = { kind: "breath" };
export const INPUT: Step = { kind: "input" };

export function record(value: FileRecord): Step {
  return { kind: "record", record: value };
}

/** Where a call works. */
export interface Ground {
  /** The directory that is `/`. */
  rootFd: number;
  /** What relative paths are relative to. */
  directory: string;
}

/** A file call that failed for a reason of the file system. */
export class FileFault extends Error {
  override readonly name = "FileFault";
  /** An errno's name. */
  readonly code: string;
  readonly path: string | null;
  /** Of a write at the wrong place: where to go on. */
  readonly offset: number | null;
  constructor(code: string, message: string, options: { path?: string | null; offset?: number; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.path = options.path ?? null;
    this.offset = options.offset ?? null;
  }
}

/** The errno's name of anything a system call threw. */
export function errnoOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === "string" && /^E[A-Z0-9]+$/.test(code) ? code : undefined;
}

const WORDS: Readonly<Record<string, string>> = {
  ENOENT: "no such file or directory",
  EEXIST: "the file exists already",
  ENOTDIR: "not a directory",
  EISDIR: "is a directory",
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  ENOTEMPTY: "the directory is not empty",
  EINVAL: "not possible for this kind of file",
  EIO: "input/output error",
  ENOSPC: "no space left on the sprite's disk",
  EDQUOT: "the disk quota is used up",
  EROFS: "the file system is read-only",
  ELOOP: "too many symbolic links, or one that may not be followed",
  ENAMETOOLONG: "the name is too long",
  EBUSY: "in use",
  EXDEV: "on another file system",
  ETXTBSY: "the program is running",
  EFBIG: "the file would be too large",
  EMFILE: "too many open files",
  ENFILE: "too many open files",
};

/** Runs a step that concerns `path`; what the kernel refuses becomes a `FileFault` naming it. */
export function naming<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw faultOf(error, path);
  }
}

/** A `FileFault` for what a system call threw; anything else stays as it is. */
export function faultOf(error: unknown, path: string): unknown {
  if (error instanceof FileFault) return error;
  const code = errnoOf(error);
  if (code === undefined) return error;
  return new FileFault(code, `${code}: ${WORDS[code] ?? "the file system refused"}`, { path, cause: error });
}

export function fault(code: string, path: string, message = WORDS[code] ?? "the file system refused"): FileFault {
  return new FileFault(code, `${code}: ${message}`, { path });
}
