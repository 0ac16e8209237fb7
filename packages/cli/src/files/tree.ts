/**
 * Whole directories as one tar stream each way. After a lost connection what has arrived is not
 * sent again: files of the same size and time are passed over.
 */
import fs from "node:fs";
import path from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { ConnectionError } from "@sprited/protocol/client/errors";
import { ApiError } from "@sprited/protocol/errors";
import { extract, type Header, pack } from "tar-stream";
import { callApi } from "../api/http.ts";
import { CliError } from "../output/cli-error.ts";
import { isObject } from "../settings/files.ts";
import { localError, lstatHere, statHere } from "./local.ts";
import { Progress } from "./progress.ts";
import { callPath, chunksOf, download, type Remote, upload } from "./remote.ts";
import { isPassing, persistently } from "./retry.ts";

/** The server's list of what it left out. */
const INCOMPLETE_NAME = ".sprite-incomplete";
const LIST_TIMEOUT_MS = 600_000;

export interface TreeResult {
  files: number;
  bytes: number;
  /** What was left out, a line each. */
  skipped: string[];
}

interface Item {
  /** Relative, with `/`. */
  name: string;
  file: string;
  stat: fs.Stats;
}

/** Sends the content of the directory `local` into the directory `target`. */
export async function pushTree(remote: Remote, local: string, target: string, options: { parents: boolean }): Promise<TreeResult> {
  const stat = await localError(fs.promises.stat(local), local);
  if (!stat.isDirectory()) throw new CliError(`${local} is not a directory.`, { hint: "Leave out -r.", code: "not_a_directory" });
  const items = await walk(local);
  const files = items.filter((item) => item.stat.isFile());
  const skipped = items
    .filter((item) => !item.stat.isFile() && !item.stat.isDirectory() && !item.stat.isSymbolicLink())
    .map(({ name }) => name);
  const bytes = files.reduce((sum, item) => sum + item.stat.size, 0);
  using progress = new Progress(path.basename(path.resolve(local)), bytes);
  await persistently(progress, async (isAgain) => {
    const there = isAgain ? await listed(remote, target) : new Set<string>();
    const rest = items.filter((item) => !there.has(keyOf(item.name, item.stat)));
    progress.done = bytes - rest.reduce((sum, item) => sum + (item.stat.isFile() ? item.stat.size : 0), 0);
    const query = { path: target, mkdirParents: isAgain || options.parents };
    await upload(remote, callPath(remote, "tree", query), tarOf(rest, progress), { headers: { "content-type": "application/x-tar" } });
  });
  return { files: files.length, bytes, skipped };
}

function keyOf(name: string, stat: { size: number; mtimeMs: number }): string {
  return `${stat.size} ${Math.floor(stat.mtimeMs / 1000)} ${name}`;
}

/** Everything below a directory, parents first; links are not followed. */
async function walk(top: string): Promise<Item[]> {
  const items: Item[] = [];
  const enter = async (directory: string, prefix: string): Promise<void> => {
    const names = await localError(fs.promises.readdir(directory), directory);
    for (const name of names.toSorted()) {
      const file = path.join(directory, name);
      const stat = await localError(fs.promises.lstat(file), file);
      items.push({ name: `${prefix}${name}`, file, stat });
      if (stat.isDirectory()) await enter(file, `${prefix}${name}/`);
    }
  };
  await enter(top, "");
  return items;
}

function tarOf(items: readonly Item[], progress: Progress): Readable {
  const tar = pack();
  const fill = async (): Promise<void> => {
    for (const { name, file, stat } of items) {
      const header = { name, mode: stat.mode & 0o7777, mtime: new Date(Math.floor(stat.mtimeMs)) };
      if (stat.isDirectory()) tar.entry({ ...header, type: "directory" });
      else if (stat.isSymbolicLink()) tar.entry({ ...header, type: "symlink", linkname: await fs.promises.readlink(file) });
      else if (stat.isFile()) {
        progress.name = name;
        const entry = tar.entry({ ...header, type: "file", size: stat.size });
        // A file that grows meanwhile is sent as it was; one that shrinks breaks the stream.
        if (stat.size === 0) entry.end(null);
        else
          await pipeline(
            fs.createReadStream(file, { end: stat.size - 1, highWaterMark: 256 * 1024 }),
            counting(progress),
            entry as unknown as NodeJS.WritableStream,
          );
      }
    }
    tar.finalize();
  };
  fill().catch((error: unknown) => tar.destroy(asError(error)));
  return Readable.from(tar as AsyncIterable<Uint8Array>, { objectMode: false, highWaterMark: 256 * 1024 });
}

function counting(progress: Progress) {
  return async function* (source: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, void> {
    for await (const chunk of source) {
      progress.add(chunk.length);
      yield chunk;
    }
  };
}

/** Files of the target that have arrived, as keys. */
async function listed(remote: Remote, target: string): Promise<Set<string>> {
  try {
    const answer = await callApi(remote.address, {
      method: "GET",
      path: callPath(remote, "list", { path: target, recursive: true }),
      timeoutMs: LIST_TIMEOUT_MS,
    });
    const entries = isObject(answer) && Array.isArray(answer["entries"]) ? answer["entries"].filter(isObject) : [];
    const [top] = [String(isObject(answer) ? answer["path"] : target)];
    return new Set(
      entries
        .filter((entry) => entry["type"] === "file")
        .map((entry) =>
          keyOf(relativeTo(top, String(entry["path"])), { size: Number(entry["size"]), mtimeMs: Date.parse(String(entry["modTime"])) }),
        ),
    );
  } catch (error) {
    if (ApiError.is(error) && error.code === "file_not_found") return new Set();
    throw error;
  }
}

/** `top` may be relative to the home: then only its end is known. */
function relativeTo(top: string, file: string): string {
  const marked = `${top.replace(/\/+$/, "").replace(/^\.?\//, "/")}/`;
  const at = file.indexOf(marked);
  return at < 0 ? file : file.slice(at + marked.length);
}

/** Fetches the content of the directory `source` into the directory `local`. */
export async function pullTree(remote: Remote, source: string, local: string, options: { parents: boolean }): Promise<TreeResult> {
  await localError(makeTop(local, options.parents), local);
  using progress = new Progress(path.posix.basename(source) || "/");
  return await persistently(progress, async () => {
    progress.done = 0;
    return await unpack(await download(remote, callPath(remote, "tree", { path: source })), local, progress);
  });
}

async function makeTop(local: string, parents: boolean): Promise<void> {
  if (parents) return void (await fs.promises.mkdir(local, { recursive: true }));
  if (statHere(local)?.isDirectory() !== true) await fs.promises.mkdir(local);
}

async function unpack(response: Awaited<ReturnType<typeof download>>, local: string, progress: Progress): Promise<TreeResult> {
  const result: TreeResult = { files: 0, bytes: 0, skipped: [] };
  const directories: { file: string; header: Header }[] = [];
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
          directories.push({ file, header });
        } else if (header.type === "symlink") await replaceLink(file, header.linkname);
        else if (header.type === "file") {
          await writeFile(file, body, { header, progress });
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
  for (const { file, header } of directories.toReversed()) {
    await fs.promises.chmod(file, header.mode & 0o777);
    await fs.promises.utimes(file, header.mtime, header.mtime);
  }
  return result;
}

/** Where an entry goes. What the sprite says must not lead out of the directory, also not through links in it. */
async function placeIn(local: string, name: string): Promise<string> {
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

async function makeDirectory(file: string): Promise<void> {
  if (lstatHere(file)?.isDirectory() === true) return;
  await localError(fs.promises.mkdir(file, 0o700), file);
}

async function replaceLink(file: string, target: string): Promise<void> {
  await fs.promises.rm(file, { force: true });
  await localError(fs.promises.symlink(target, file), file);
}

async function writeFile(file: string, body: AsyncIterable<Buffer>, into: { header: Header; progress: Progress }): Promise<void> {
  const { header, progress } = into;
  const temporary = `${file}.part`;
  await fs.promises.rm(temporary, { force: true });
  const handle = await localError(fs.promises.open(temporary, "wx", 0o600), file);
  let isPlaced = false;
  try {
    for await (const chunk of body) {
      for (let at = 0; at < chunk.length;) at += (await localError(handle.write(chunk, at), file)).bytesWritten;
      progress.add(chunk.length);
    }
    await handle.chmod(header.mode & 0o777);
    await handle.utimes(header.mtime, header.mtime);
    await localError(fs.promises.rename(temporary, file), file);
    isPlaced = true;
  } finally {
    await handle.close();
    if (!isPlaced) await fs.promises.rm(temporary, { force: true });
  }
}

async function linesOf(body: AsyncIterable<Buffer>): Promise<string[]> {
  let text = "";
  for await (const chunk of body) text += chunk.toString("utf8");
  return text.split("\n").filter((line) => line !== "");
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
