/** One file into a sprite, or standard input. */
import path from "node:path";
import fs from "node:fs";
import type { Readable } from "node:stream";
import { CliError } from "../output/cli-error.ts";
import { localError } from "./local.ts";
import { Progress } from "./progress.ts";
import { callPath, type Remote, statRemote, upload } from "./remote.ts";
import { persistently } from "./retry.ts";
import { counted, FileSending } from "./send.ts";

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
  const sending = new FileSending(remote, { local, stat, target: to, parents: options.parents, keepsTime: false }, progress);
  await persistently(progress, () => sending.attempt());
  return stat.size;
}

async function pushStream(remote: Remote, source: Readable, target: string, options: PushOptions): Promise<number> {
  if (target.endsWith("/")) throw new CliError("Name the file that standard input becomes.", { code: "usage", exitCode: 2 });
  using progress = new Progress(path.posix.basename(target));
  const body = counted(source, (bytes) => progress.add(bytes));
  await upload(remote, callPath(remote, "write", { path: target, mkdirParents: options.parents }), body);
  return progress.done;
}

/** Where a file goes: into a directory under its own name. */
async function fileTarget(remote: Remote, target: string, name: string): Promise<string> {
  if (target.endsWith("/")) return `${target}${name}`;
  const there = await statRemote(remote, target);
  return there?.type === "directory" ? `${target}/${name}` : target;
}
