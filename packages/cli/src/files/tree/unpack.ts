/** A tar stream of a sprite into a directory here. Nothing is written outside of it, whatever the names say. */
import fs from "node:fs";
import path from "node:path";
import { ConnectionError } from "@sprited/protocol/client/errors";
import { extract, type Header } from "tar-stream";
import { CliError } from "../../output/cli-error.ts";
import { localError, lstatHere, secondsOf } from "../local.ts";
import { KEPT_BYTES_MIN, partOf } from "../part-file.ts";
import type { Progress } from "../progress.ts";
import { chunksOf, type download, type Remote } from "../remote.ts";
import { isPassing } from "../retry.ts";
import type { TreeResult } from "./result.ts";

/** The server's list of what it left out. */
const INCOMPLETE_NAME = ".sprite-incomplete";
/** What a decimal fraction may lack of its ms as a floating-point number. */
const ROUNDING_MS = 1e-3;

/** Where a tree comes from. */
export interface TreeSource {
  remote: Remote;
  /** The directory in the sprite. */
  path: string;
}

export async function unpack(
  response: Awaited<ReturnType<typeof download>>,
  into: { source: TreeSource; local: string; progress: Progress },
): Promise<TreeResult> {
  const { source, local, progress } = into;
  const result: TreeResult = { files: 0, bytes: 0, kept: 0, skipped: [] };
  const directories: { file: string; mode: number; mtimeMs: number }[] = [];
  const tar = extract();
  const feeding = (async () => {
    try {
      for await (const chunk of chunksOf(response)) if (!tar.write(chunk)) await new Promise<void>((resolve) => tar.once("drain", resolve));
      tar.end(null);
    } catch (error) {
      tar.destroy(asError(error));
      throw error;
    }
  })();
  feeding.catch((error: unknown) => tar.destroy(asError(error)));
  try {
    for await (const entry of tar) {
      const { header } = entry;
      const body = entry as AsyncIterable<Buffer>;
      if (header.name === INCOMPLETE_NAME) result.skipped.push(...(await linesOf(body)));
      else {
        const file = await placeIn(local, header.name);
        progress.name = header.name;
        if (header.type === "directory") {
          if (file !== local) await makeDirectory(file);
          directories.push({ file, mode: header.mode, mtimeMs: mtimeOf(header) });
        } else if (header.type === "symlink") await replaceLink(file, header.linkname ?? "");
        else if (header.type === "file") {
          await writeFile(file, body, { header, progress, source });
          result.files += 1;
          result.bytes += header.size;
        }
      }
      entry.resume();
    }
  } catch (error) {
    await feeding;
    throw isPassing(error) || error instanceof CliError
      ? error
      : new ConnectionError("bad_answer", "the answer is not a tar stream", { cause: error });
  } finally {
    response.destroy();
  }
  await feeding;
  await finishDirectories(directories);
  return result;
}

/** Modes and times of directories into which nothing is written any more; children after their parents. */
export async function finishDirectories(directories: readonly { file: string; mode: number; mtimeMs: number }[]): Promise<void> {
  for (const { file, mode, mtimeMs } of directories.toReversed()) {
    await fs.promises.chmod(file, mode & 0o777);
    await fs.promises.utimes(file, secondsOf(mtimeMs), secondsOf(mtimeMs));
  }
}

/** Where an entry goes. What the sprite says must not lead out of the directory, also not through links in it. */
export async function placeIn(local: string, name: string): Promise<string> {
  const names = name.split("/").filter((part) => part !== "" && part !== ".");
  if (names.includes("..") || names.some((part) => part.includes("\\") && path.sep === "\\"))
    throw new CliError("The sprite sent a name that leads out of the directory.", { code: "bad_name" });
  let at = local;
  for (const part of names.slice(0, -1)) {
    at = path.join(at, part);
    const stat = lstatHere(at);
    if (stat && !stat.isDirectory()) throw new CliError(`${at} is in the way: not a directory.`, { code: "local_file" });
    if (!stat) await localError(fs.promises.mkdir(at), at);
  }
  return path.join(local, ...names);
}

export async function makeDirectory(file: string): Promise<void> {
  if (lstatHere(file)?.isDirectory() === true) return;
  await localError(fs.promises.mkdir(file, 0o700), file);
}

export async function replaceLink(file: string, target: string): Promise<void> {
  await fs.promises.rm(file, { force: true });
  await localError(fs.promises.symlink(target, file), file);
}

/** Under a name of ours until it is whole. Of a large file that was cut what has come stays, to be gone on with. */
async function writeFile(
  file: string,
  body: AsyncIterable<Buffer>,
  into: { header: Header; progress: Progress; source: TreeSource },
): Promise<void> {
  const { header, progress, source } = into;
  const mtimeMs = mtimeOf(header);
  const version = { remote: source.remote, source: remotePath(source.path, header.name), size: header.size, mtimeMs };
  const temporary = partOf(file, version);
  await fs.promises.rm(temporary, { force: true });
  const handle = await localError(fs.promises.open(temporary, "wx", 0o600), file);
  let [bytes, isPlaced] = [0, false];
  try {
    for await (const chunk of body) {
      for (let at = 0; at < chunk.length;) at += (await localError(handle.write(chunk, at), file)).bytesWritten;
      bytes += chunk.length;
      progress.add(chunk.length);
    }
    await handle.chmod(header.mode & 0o777);
    await handle.utimes(secondsOf(mtimeMs), secondsOf(mtimeMs));
    await localError(fs.promises.rename(temporary, file), file);
    isPlaced = true;
  } finally {
    await handle.close();
    if (!isPlaced && bytes < KEPT_BYTES_MIN) await fs.promises.rm(temporary, { force: true });
  }
}

/** The path in the sprite of something in a tree. */
export function remotePath(top: string, name: string): string {
  return top.endsWith("/") ? `${top}${name}` : `${top}/${name}`;
}

/** To the ms where the stream has fractions of seconds. */
function mtimeOf(header: Header): number {
  const precise = Number((header.pax as { mtime?: string } | null | undefined)?.mtime ?? Number.NaN) * 1000;
  return Number.isFinite(precise) ? Math.floor(precise + ROUNDING_MS) : header.mtime.getTime();
}

async function linesOf(body: AsyncIterable<Buffer>): Promise<string[]> {
  let text = "";
  for await (const chunk of body) text += chunk.toString("utf8");
  return text.split("\n").filter((line) => line !== "");
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
