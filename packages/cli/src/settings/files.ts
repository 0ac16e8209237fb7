/**
 * Reading and writing the CLI's small JSON files.
 *
 * Invariants: a file is replaced whole (write beside it, then rename), so a reader never sees half
 * of it; private files have mode 0600 from their first byte, their directory 0700.
 */
import { chmodSync, mkdirSync, openSync, closeSync, readFileSync, realpathSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { CliError } from "../output/cli-error.ts";

/** Largest file that is read, bytes. */
const FILE_BYTES_MAX = 4 * 1024 * 1024;

/** The text of a file; undefined when it does not exist. Other failures throw. */
export function readText(path: string): string | undefined {
  try {
    if (statSync(path).size > FILE_BYTES_MAX)
      throw new CliError(`${path} is too large to be a settings file.`, { hint: "Look at it, and remove it if it is not yours." });
    return readFileSync(path, "utf8");
  } catch (error) {
    if (hasCode(error, "ENOENT") || hasCode(error, "ENOTDIR")) return undefined;
    if (error instanceof CliError) throw error;
    throw new CliError(`Cannot read ${path}.`, { hint: "Check its owner and permissions.", cause: error });
  }
}

/** The JSON object in a file; undefined when there is no file. */
export function readJsonObject(path: string): Record<string, unknown> | undefined {
  const text = readText(path);
  if (text === undefined) return undefined;
  const value = parseJson(text);
  if (isObject(value)) return value;
  throw new CliError(`${path} does not contain a JSON object.`, { hint: "Correct it, or remove it and log in again." });
}

/** Replaces a private file. */
export function writePrivateJson(path: string, value: unknown): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  chmodSync(dirname(path), 0o700);
  writeWhole(path, value, 0o600);
}

/** Replaces a file that others may read. */
export function writePublicJson(path: string, value: unknown): void {
  writeWhole(path, value, 0o644);
}

/** Removes a file; true when there was one. */
export function removeFile(path: string): boolean {
  try {
    rmSync(path);
    return true;
  } catch (error) {
    if (hasCode(error, "ENOENT")) return false;
    throw new CliError(`Cannot remove ${path}.`, { hint: "Check its owner and permissions.", cause: error });
  }
}

function writeWhole(path: string, value: unknown, mode: number): void {
  const target = realPath(path); // a file that is a link stays one
  const temporary = `${target}.${process.pid}.new`;
  try {
    const file = openSync(temporary, "wx", mode);
    try {
      writeSync(file, `${JSON.stringify(value, undefined, 2)}\n`);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, target);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw new CliError(`Cannot write ${path}.`, { hint: "Check the permissions of its directory and the free space.", cause: error });
  }
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path; // not there yet
  }
}

/** The value of a JSON text; undefined when it is none. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function hasCode(error: unknown, code: string): boolean {
  return isObject(error) && error["code"] === code;
}
