/** What goes wrong with files of this computer, in words. */
import fs from "node:fs";
import { CliError } from "../output/cli-error.ts";

const WORDS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or directory",
  EACCES: "permission denied",
  EPERM: "not permitted",
  ENOTDIR: "a part of the path is not a directory",
  EISDIR: "it is a directory",
  ENOSPC: "no space left on this computer's disk",
  EROFS: "the file system is read-only",
};

/** Lets a time of whole ms be read back as the same number: as seconds it is a binary fraction. */
const TIME_ROUNDING_S = 1e-6;

/** A time in ms as `utimes` takes it. */
export function secondsOf(ms: number): number {
  return ms / 1000 + TIME_ROUNDING_S;
}

/** The result of `work` on `file`; a refusal of the system becomes a `CliError`. */
export async function localError<T>(work: Promise<T>, file: string): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (typeof code !== "string") throw error;
    throw new CliError(`${file}: ${WORDS[code] ?? code}.`, { code: "local_file", cause: error });
  }
}

/** Undefined when there is nothing, or nothing that this user may see. */
export function statHere(file: string): fs.Stats | undefined {
  try {
    return fs.statSync(file, { throwIfNoEntry: false });
  } catch {
    return undefined; // whoever opens it is told why
  }
}

/** The same for a link itself. */
export function lstatHere(file: string): fs.Stats | undefined {
  try {
    return fs.lstatSync(file, { throwIfNoEntry: false });
  } catch {
    return undefined; // whoever opens it is told why
  }
}
