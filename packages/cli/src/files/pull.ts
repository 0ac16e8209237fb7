/** One file out of a sprite: whole under its name, or not there at all. */
import fs from "node:fs";
import path from "node:path";
import { localError, statHere } from "./local.ts";
import { isPartName, LeftParts } from "./part-file.ts";
import { Progress } from "./progress.ts";
import { FileReceiving } from "./receive.ts";
import { callPath, chunksOf, download, type Remote, statRemote } from "./remote.ts";
import { persistently } from "./retry.ts";

/** Fetches `source` to `local` (`-`: standard output). Returns the bytes. */
export async function pullFile(remote: Remote, source: string, local: string, options: { parents: boolean }): Promise<number> {
  if (local === "-") return await pullToOutput(remote, source);
  const to = localTarget(local, path.posix.basename(source));
  const directory = path.dirname(to);
  if (options.parents) await localError(fs.promises.mkdir(directory, { recursive: true }), to);
  // Only where an earlier run was cut is it worth a question what the file is like now.
  const isLeft = (await localError(fs.promises.readdir(directory), to)).some(isPartName);
  const seen = isLeft ? await statRemote(remote, source) : undefined;
  using progress = new Progress(path.posix.basename(source), undefined);
  await using receiving = new FileReceiving(remote, { source, to, keepsTime: false, seen }, { progress, left: new LeftParts() });
  return await persistently(progress, () => receiving.attempt());
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
