/**
 * A directory out of a sprite: into an empty one as one tar stream, which is quick for many small
 * files; after a cut, and where something is there already, file by file. What is here already (size,
 * mode, time of the last change) is not fetched, and each file goes on at the right byte.
 */
import fs from "node:fs";
import path from "node:path";
import { ApiError } from "@sprited/protocol/errors";
import { localError, lstatHere, statHere } from "../local.ts";
import { KEPT_BYTES_MIN, LeftParts } from "../part-file.ts";
import { Progress } from "../progress.ts";
import { FileReceiving } from "../receive.ts";
import { callPath, download, type Remote } from "../remote.ts";
import { persistently } from "../retry.ts";
import { eachAtOnce, isSame, listRemote, type RemoteEntry } from "./listing.ts";
import type { TreeResult } from "./result.ts";
import { finishDirectories, makeDirectory, placeIn, remotePath, replaceLink, unpack } from "./unpack.ts";

/** Fetches the content of the directory `source` into the directory `local`. */
export async function pullTree(remote: Remote, source: string, local: string, options: { parents: boolean }): Promise<TreeResult> {
  await localError(makeTop(local, options.parents), local);
  const isEmpty = (await localError(fs.promises.readdir(local), local)).length === 0;
  using progress = new Progress(path.posix.basename(source) || "/");
  await using pull = new TreePull(remote, { source, local }, progress);
  return await persistently(progress, async (isAgain) => {
    if (!isEmpty || isAgain) return await pull.attempt();
    const response = await download(remote, callPath(remote, "tree", { path: source }));
    return await unpack(response, { source: { remote, path: source }, local, progress });
  });
}

async function makeTop(local: string, parents: boolean): Promise<void> {
  if (parents) return void (await fs.promises.mkdir(local, { recursive: true }));
  if (statHere(local)?.isDirectory() !== true) await fs.promises.mkdir(local);
}

/** A file that is not here yet. */
interface Missing {
  name: string;
  file: string;
  entry: RemoteEntry;
}

class TreePull implements AsyncDisposable {
  readonly #remote: Remote;
  readonly #source: string;
  readonly #local: string;
  readonly #progress: Progress;
  readonly #left = new LeftParts();
  readonly #receivings = new Map<string, FileReceiving>();
  #kept: number | undefined;

  constructor(remote: Remote, tree: { source: string; local: string }, progress: Progress) {
    this.#remote = remote;
    this.#source = tree.source;
    this.#local = tree.local;
    this.#progress = progress;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const receiving of this.#receivings.values()) await receiving[Symbol.asyncDispose]();
  }

  async attempt(): Promise<TreeResult> {
    const result: TreeResult = { files: 0, bytes: 0, kept: 0, skipped: [] };
    const directories: { file: string; mode: number; mtimeMs: number }[] = [];
    const missing: Missing[] = [];
    await this.#look({ result, directories, missing });
    this.#progress.moved += 1;
    result.kept = this.#kept ??= result.files - missing.length;
    const missingBytes = missing.reduce((sum, { entry }) => sum + entry.size, 0);
    const shown = missing.reduce((sum, { name }) => sum + (this.#receivings.get(name)?.received ?? 0), 0);
    this.#progress.total = result.bytes;
    this.#progress.done = result.bytes - missingBytes + shown;
    const isLarge = ({ entry }: Missing): boolean => entry.size >= KEPT_BYTES_MIN;
    await eachAtOnce(
      missing.filter((one) => !isLarge(one)),
      (one) => this.#fetch(one, result),
    );
    for (const one of missing.filter(isLarge)) await this.#fetch(one, result);
    await finishDirectories(directories);
    return result;
  }

  /** Makes directories and links, and finds what is missing. */
  async #look(found: {
    result: TreeResult;
    directories: { file: string; mode: number; mtimeMs: number }[];
    missing: Missing[];
  }): Promise<void> {
    const queue = [""];
    await eachAtOnce(queue, async (directory) => {
      const entries = await this.#orSkipped(found.result, directory, () => listRemote(this.#remote, this.#pathOf(directory)));
      for (const entry of entries ?? []) {
        const name = directory === "" ? entry.name : `${directory}/${entry.name}`;
        const file = await placeIn(this.#local, name);
        if (entry.type === "directory") {
          await makeDirectory(file);
          found.directories.push({ file, mode: entry.mode, mtimeMs: entry.mtimeMs });
          await fs.promises.chmod(file, entry.mode | 0o700);
          queue.push(name);
        } else if (entry.type === "symlink") await replaceLink(file, entry.target ?? "");
        else if (entry.type === "file") {
          found.result.files += 1;
          found.result.bytes += entry.size;
          const here = lstatHere(file);
          if (!here?.isFile() || !isSame(here, entry)) found.missing.push({ name, file, entry });
        } else found.result.skipped.push(`EINVAL ${name}`);
      }
    });
  }

  async #fetch({ name, file, entry }: Missing, result: TreeResult): Promise<void> {
    this.#progress.name = name;
    const receiving = this.#receivings.get(name) ?? this.#receivingOf(name, file, entry);
    this.#receivings.set(name, receiving);
    const bytes = await this.#orSkipped(result, name, () => receiving.attempt());
    this.#receivings.delete(name);
    if (bytes !== undefined) return;
    await receiving[Symbol.asyncDispose]();
    result.files -= 1;
    result.bytes -= entry.size;
  }

  #receivingOf(name: string, to: string, seen: RemoteEntry): FileReceiving {
    const wanted = { source: this.#pathOf(name), to, keepsTime: true, seen };
    return new FileReceiving(this.#remote, wanted, { progress: this.#progress, left: this.#left });
  }

  #pathOf(name: string): string {
    return name === "" ? this.#source : remotePath(this.#source, name);
  }

  /** What may not be read is left out and named; what has gone meanwhile is passed over. The top must be there. */
  async #orSkipped<T>(result: TreeResult, name: string, work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      const isRefused = ApiError.is(error) && (error.code === "file_forbidden" || error.code === "file_not_found");
      if (!isRefused || name === "") throw error;
      if (error.code === "file_forbidden") result.skipped.push(`${String(error.details["code"] ?? "EACCES")} ${name}`);
      return undefined;
    }
  }
}
