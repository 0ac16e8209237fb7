/** One file out of a sprite: whole under its name, or not there at all. */
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { ApiError } from "@sprited/protocol/errors";
import { CliError } from "../output/cli-error.ts";
import { localError, statHere } from "./local.ts";
import { Progress } from "./progress.ts";
import { callPath, chunksOf, download, type Remote, statRemote } from "./remote.ts";
import { persistently } from "./retry.ts";

/** Zeros in pieces of this size become holes again, bytes. */
const HOLE_BYTES = 64 * 1024;
const ZEROS = Buffer.alloc(HOLE_BYTES);

/** Fetches `source` to `local` (`-`: standard output). Returns the bytes. */
export async function pullFile(remote: Remote, source: string, local: string, options: { parents: boolean }): Promise<number> {
  if (local === "-") return await pullToOutput(remote, source);
  const to = localTarget(local, path.posix.basename(source));
  if (options.parents) await localError(fs.promises.mkdir(path.dirname(to), { recursive: true }), to);
  const temporary = path.join(path.dirname(to), `.${path.basename(to)}.${randomBytes(4).toString("hex")}.part`);
  const file = await localError(fs.promises.open(temporary, "wx+", 0o600), to);
  let isPlaced = false;
  try {
    using progress = new Progress(path.posix.basename(source));
    const got = await receive(remote, source, { file, progress });
    await file.truncate(progress.done);
    await file.chmod(got.mode & 0o777);
    if (got.isResumed) await verify(remote, source, temporary);
    await fs.promises.rename(temporary, to);
    isPlaced = true;
    return progress.done;
  } finally {
    await file.close();
    if (!isPlaced) await fs.promises.rm(temporary, { force: true });
  }
}

async function receive(
  remote: Remote,
  source: string,
  into: { file: fs.promises.FileHandle; progress: Progress },
): Promise<{ mode: number; isResumed: boolean }> {
  const { file, progress } = into;
  let etag: string | undefined;
  let isResumed = false;
  let mode = 0o644;
  await persistently(progress, async () => {
    // A file that changed meanwhile is fetched anew, from its first byte.
    const response = await resume(remote, source, { etag, offset: progress.done }).catch((error: unknown) => {
      if (!ApiError.is(error) || (error.code !== "file_changed" && error.code !== "file_range")) throw error;
      return undefined;
    });
    if (!response) progress.done = 0;
    const answer = response ?? (await resume(remote, source, { etag: undefined, offset: 0 }));
    isResumed = answer.statusCode === 206;
    if (!isResumed) progress.done = 0;
    etag = answer.headers.etag;
    mode = Number.parseInt(String(answer.headers["x-file-mode"] ?? "644"), 8);
    const length = answer.headers["content-length"];
    progress.total = length === undefined ? undefined : progress.done + Number(length);
    const isSparse = progress.total !== undefined && Number(answer.headers["x-file-allocated"] ?? progress.total) < progress.total;
    for await (const chunk of chunksOf(answer)) {
      await writePieces(file, chunk, { offset: progress.done, isSparse });
      progress.add(chunk.length);
    }
  });
  return { mode, isResumed };
}

async function resume(remote: Remote, source: string, from: { etag: string | undefined; offset: number }) {
  const isFirst = from.etag === undefined || from.offset === 0;
  const headers: Record<string, string> = isFirst ? {} : { range: `bytes=${from.offset}-`, "if-match": from.etag ?? "" };
  return await download(remote, callPath(remote, "read", { path: source }), headers);
}

async function writePieces(file: fs.promises.FileHandle, chunk: Buffer, at: { offset: number; isSparse: boolean }): Promise<void> {
  const step = at.isSparse ? HOLE_BYTES : chunk.length;
  for (let from = 0; from < chunk.length; from += step) {
    const piece = chunk.subarray(from, from + step);
    if (at.isSparse && ZEROS.subarray(0, piece.length).equals(piece)) continue;
    for (let done = 0; done < piece.length;)
      done += (await file.write(piece, done, piece.length - done, at.offset + from + done)).bytesWritten;
  }
}

async function pullToOutput(remote: Remote, source: string): Promise<number> {
  const response = await download(remote, callPath(remote, "read", { path: source }));
  let bytes = 0;
  for await (const chunk of chunksOf(response)) {
    bytes += chunk.length;
    if (!process.stdout.write(chunk)) await new Promise<void>((resolve) => process.stdout.once("drain", resolve));
  }
  return bytes;
}

/** Where a file goes: into a directory under its own name. */
function localTarget(local: string, name: string): string {
  return statHere(local)?.isDirectory() === true || local.endsWith("/") ? path.join(local, name) : local;
}

async function verify(remote: Remote, source: string, local: string): Promise<void> {
  const hash = createHash("sha256");
  const [there] = await Promise.all([statRemote(remote, source, { digest: true }), pipeline(fs.createReadStream(local), hash)]);
  if (there?.sha256 !== hash.digest("hex"))
    throw new CliError(`${source} was changed while it was fetched.`, { hint: "Fetch it again.", code: "file_changed" });
}
