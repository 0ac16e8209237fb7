import { DiskError } from "../errors.ts";

/**
 * Turns what the file system said into a `DiskError`: no room is `disk_full`, all else `disk_io`.
 * A `DiskError` and an abort pass unchanged.
 */
export function asDiskError(error: unknown, attempted: string): unknown {
  if (error instanceof DiskError) return error;
  const code = systemErrorCode(error);
  if (code === undefined) return error;
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new DiskError("disk_full", `${attempted}: the disk is full; free some space and try again`, { cause: error });
  }
  if (code === "ENOENT") {
    return new DiskError("disk_damaged", `${attempted}: a file that must be there is missing`, { cause: error });
  }
  return new DiskError("disk_io", `${attempted}: the file system refused (${code})`, { cause: error });
}

/** `ENOENT` and its like; undefined for errors that do not come from the system. */
export function systemErrorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || error.name === "AbortError") return undefined;
  const code = (error as NodeJS.ErrnoException).code;
  return typeof code === "string" && /^E[A-Z0-9]+$/.test(code) ? code : undefined;
}
