/** One file into a sprite. Goes on at the right byte after a lost connection, and then compares the hashes. */
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { PassThrough, type Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { ApiError } from "@sprited/protocol/errors";
import { CliError } from "../output/cli-error.ts";
import { localError } from "./local.ts";
import { Progress } from "./progress.ts";
import { callPath, type Remote, statRemote, upload, uploadedBytes } from "./remote.ts";
import { persistently } from "./retry.ts";

const READ_BYTES = 256 * 1024;

export interface PushOptions {
  /** Makes missing directories. */
  parents: boolean;
}

/** Sends `local` (`-`: standard input) to `target`. Returns the bytes. Throws `CliError`, `ApiError`, `ConnectionError`. */
export async function pushFile(remote: Remote, local: string, target: string, options: PushOptions): Promise<number> {
  if (local === "-") return await pushStream(remote, process.stdin, target, options);
  const stat = await localError(fs.promises.stat(local), local);
  if (stat.isDirectory())
    throw new CliError(`${local} is a directory.`, {
      hint: "Transfer it with everything in it: `sprite file push -r`.",
      code: "is_directory",
    });
  const to = await fileTarget(remote, target, path.basename(local));
  using progress = new Progress(path.basename(local), stat.size);
  const id = randomBytes(16).toString("hex");
  let isResumed = false;
  await persistently(progress, async (isAgain) => {
    const offset = isAgain ? await uploadedBytes(remote, id) : 0;
    isResumed ||= offset > 0;
    progress.done = offset;
    const query = {
      path: to,
      upload: id,
      offset,
      mode: (stat.mode & 0o777).toString(8).padStart(4, "0"),
      mkdirParents: options.parents,
      // A file with holes keeps them.
      sparse: stat.blocks * 512 < stat.size ? true : undefined,
    };
    const body = counted(fs.createReadStream(local, { start: offset, highWaterMark: READ_BYTES }), progress);
    await upload(remote, callPath(remote, "write", query), body, {
      headers: { "content-length": String(Math.max(0, stat.size - offset)) },
    });
  });
  const now = await localError(fs.promises.stat(local), local);
  if (now.size !== stat.size || now.mtimeMs !== stat.mtimeMs)
    throw new CliError(`${local} was changed while it was sent.`, { hint: "Send it again.", code: "file_changed" });
  if (isResumed) await verify(remote, local, to);
  return stat.size;
}

async function pushStream(remote: Remote, source: Readable, target: string, options: PushOptions): Promise<number> {
  if (target.endsWith("/")) throw new CliError("Name the file that standard input becomes.", { code: "usage", exitCode: 2 });
  using progress = new Progress(path.posix.basename(target));
  await upload(remote, callPath(remote, "write", { path: target, mkdirParents: options.parents }), counted(source, progress));
  return progress.done;
}

/** Where a file goes: into a directory under its own name. */
export async function fileTarget(remote: Remote, target: string, name: string): Promise<string> {
  if (target.endsWith("/")) return `${target}${name}`;
  const there = await statRemote(remote, target);
  return there?.type === "directory" ? `${target}/${name}` : target;
}

/** The same bytes, counted as they leave. */
export function counted(source: Readable, progress: Progress): Readable {
  const out = new PassThrough({ highWaterMark: READ_BYTES });
  source.on("data", (chunk: Buffer) => progress.add(chunk.length));
  source.once("error", (error) => out.destroy(error));
  out.once("close", () => source.destroy());
  source.pipe(out);
  return out;
}

/** Throws when the file in the sprite is not the local one. */
async function verify(remote: Remote, local: string, target: string): Promise<void> {
  const hash = createHash("sha256");
  const [there] = await Promise.all([statRemote(remote, target, { digest: true }), pipeline(fs.createReadStream(local), hash)]);
  if (there?.sha256 !== hash.digest("hex")) throw new ApiError("file_io", `${target} is not what was sent; send it again`);
}
