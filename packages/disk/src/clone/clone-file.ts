/**
 * Clones of files: by reflink in constant time, or as sparse copies where the file system cannot.
 *
 * Durability rule: when a clone has returned, it survives a power cut. The data is flushed under the
 * temporary name, then renamed, then the directory is flushed; so a name is never seen with
 * half its content. On XFS the two flushes cost under 2 ms together (docs/adr/0003), less than any
 * later repair of a sprite whose record is durable and whose disk is not.
 */
import { constants } from "node:fs";
import fs from "node:fs/promises";
import path from "node:path";
import { run, RunError } from "@sprited/base";
import { DiskError } from "../errors.ts";
import { syncDirectory, syncFile, tempBeside } from "../layout/atomic.ts";
import { asDiskError, systemErrorCode } from "./fs-error.ts";

/** Limit of a sparse copy, ms: tens of GB on a slow disk. */
const COPY_TIMEOUT_MS = 30 * 60_000;

/** Clones `source` to `target`, which appears whole or not at all. Throws `DiskError`. */
export async function cloneFile(
  source: string,
  target: string,
  options: { kind: "reflink" | "copy"; signal?: AbortSignal | undefined; durable?: boolean | undefined },
): Promise<void> {
  const temp = tempBeside(target);
  const what = `cloning ${path.basename(source)}`;
  try {
    options.signal?.throwIfAborted();
    if (options.kind === "reflink") await fs.copyFile(source, temp, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE);
    else await sparseCopy(source, temp, options.signal);
    await fs.chmod(temp, 0o600);
    if (options.durable !== false) await syncFile(temp);
    options.signal?.throwIfAborted();
    await fs.rename(temp, target);
    if (options.durable !== false) await syncDirectory(path.dirname(target));
  } catch (error) {
    await fs.rm(temp, { force: true });
    throw asDiskError(error, what);
  }
}

async function sparseCopy(source: string, target: string, signal: AbortSignal | undefined): Promise<void> {
  await fs.access(source);
  try {
    await run("cp", ["--sparse=always", "--reflink=auto", "--", source, target], { timeoutMs: COPY_TIMEOUT_MS, signal });
  } catch (cause) {
    if (!(cause instanceof RunError)) throw cause;
    const full = /no space left on device|disk quota/i.test(cause.stderr);
    throw full
      ? new DiskError("disk_full", `copying ${path.basename(source)}: the disk is full; free some space and try again`, { cause })
      : new DiskError("disk_io", `copying ${path.basename(source)} failed`, { cause });
  }
}

/** Whether files in `directory` can be cloned by reflink: tries it with a small one. */
export async function canReflink(directory: string): Promise<boolean> {
  const probe = tempBeside(path.join(directory, "reflink-probe"));
  try {
    await fs.writeFile(probe, Buffer.alloc(64 * 1024, 1));
    await fs.copyFile(probe, `${probe}.clone`, constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch (error) {
    if (["ENOTSUP", "EOPNOTSUPP", "EXDEV", "EINVAL", "ENOTTY", "ENOSYS"].includes(systemErrorCode(error) ?? "")) return false;
    throw asDiskError(error, `trying whether ${directory} can share blocks`);
  } finally {
    await fs.rm(probe, { force: true });
    await fs.rm(`${probe}.clone`, { force: true });
  }
}
