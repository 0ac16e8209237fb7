/**
 * A directory into a sprite. What is there already (size, mode, time of the last change) is not sent;
 * small files go as one tar stream, large ones one by one, so that each goes on at the right byte.
 *
 * Invariants: directories are there before their files, and get their modes and times when nothing
 * is written into them any more; no symlink in the sprite is followed.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { ApiError } from "@sprited/protocol/errors";
import { pack } from "tar-stream";
import { callApi } from "../../api/http.ts";
import { CliError } from "../../output/cli-error.ts";
import { localError } from "../local.ts";
import { isPartName, KEPT_BYTES_MIN } from "../part-file.ts";
import { Progress } from "../progress.ts";
import { callPath, type Remote, upload } from "../remote.ts";
import { persistently } from "../retry.ts";
import { FileSending, showingArrived } from "../send.ts";
import { eachAtOnce, isSame, listRemote, type RemoteEntry } from "./listing.ts";
import type { TreeResult } from "./result.ts";

const DELETE_TIMEOUT_MS = 60_000;
const READ_BYTES = 256 * 1024;

interface Item {
  /** Relative, with `/`. */
  name: string;
  file: string;
  stat: fs.Stats;
}

/** What is to be done for a tree to be in the sprite. */
interface Missing {
  /** Files to send. */
  files: Item[];
  /** Large files whose name a symlink has: it would be followed. */
  inTheWay: Set<string>;
}

/** Sends the content of the directory `local` into the directory `target`. */
export async function pushTree(remote: Remote, local: string, target: string, options: { parents: boolean }): Promise<TreeResult> {
  const stat = await localError(fs.promises.stat(local), local);
  if (!stat.isDirectory()) throw new CliError(`${local} is not a directory.`, { hint: "Leave out -r.", code: "not_a_directory" });
  const items = await walk(local);
  using progress = new Progress(path.basename(path.resolve(local)), bytesOf(items));
  const push = new TreePush(remote, { items, target, parents: options.parents }, progress);
  await persistently(progress, () => push.attempt());
  const isKnown = ({ stat: one }: Item): boolean => one.isFile() || one.isDirectory() || one.isSymbolicLink();
  return {
    files: items.filter((item) => item.stat.isFile()).length,
    bytes: bytesOf(items),
    kept: push.kept ?? 0,
    skipped: items.filter((item) => !isKnown(item)).map(({ name }) => name),
  };
}

class TreePush {
  /** Files that were there before anything was sent. */
  kept: number | undefined;
  readonly #remote: Remote;
  readonly #tree: { items: readonly Item[]; target: string; parents: boolean };
  readonly #progress: Progress;
  readonly #sendings = new Map<string, FileSending>();

  constructor(remote: Remote, tree: { items: readonly Item[]; target: string; parents: boolean }, progress: Progress) {
    this.#remote = remote;
    this.#tree = tree;
    this.#progress = progress;
  }

  async attempt(): Promise<void> {
    const { items, target } = this.#tree;
    const missing = await this.#compare();
    const files = items.filter((item) => item.stat.isFile());
    this.kept ??= files.length - missing.files.length;
    const large = missing.files.filter((item) => item.stat.size >= KEPT_BYTES_MIN);
    const sendings = large.map((item) => ({ item, sending: this.#sendingOf(item) }));
    this.#progress.done = bytesOf(files) - bytesOf(missing.files) + sendings.reduce((sum, { sending }) => sum + sending.shown, 0);
    const frame = items.filter((item) => item.stat.isDirectory() || item.stat.isSymbolicLink());
    const small = missing.files.filter((item) => item.stat.size < KEPT_BYTES_MIN);
    // While files are still to come, their directories can be written.
    await this.#sendTar([...frame, ...small].toSorted(byPlace), { isWritable: large.length > 0 });
    for (const { item, sending } of sendings) {
      this.#progress.name = item.name;
      if (missing.inTheWay.has(item.name)) await this.#remove(`${target}/${item.name}`);
      await sending.attempt();
    }
    if (large.length > 0)
      await this.#sendTar(
        items.filter((item) => item.stat.isDirectory()),
        { isWritable: false },
      );
  }

  #sendingOf(item: Item): FileSending {
    const { file: local, stat, name } = item;
    const known = this.#sendings.get(name);
    if (known) return known;
    const target = `${this.#tree.target.replace(/\/+$/, "")}/${name}`;
    const sending = new FileSending(this.#remote, { local, stat, target, parents: false, keepsTime: true }, this.#progress);
    this.#sendings.set(name, sending);
    return sending;
  }

  /** Looks into the directories of the sprite that the tree has, too. */
  async #compare(): Promise<Missing> {
    const { items, target } = this.#tree;
    const there = new Map<string, RemoteEntry>();
    const local = new Set(items.filter((item) => item.stat.isDirectory()).map(({ name }) => name));
    const queue = [""];
    await eachAtOnce(queue, async (directory) => {
      const at = directory === "" ? target : `${target}/${directory}`;
      for (const entry of await this.#entriesOf(at)) {
        const name = directory === "" ? entry.name : `${directory}/${entry.name}`;
        there.set(name, entry);
        if (entry.type === "directory" && local.has(name)) queue.push(name);
      }
    });
    this.#progress.moved += 1;
    const files = items.filter((item) => {
      const entry = there.get(item.name);
      return item.stat.isFile() && !(entry && isSame(item.stat, entry));
    });
    const isLink = ({ name }: Item): boolean => there.get(name)?.type === "symlink";
    return { files, inTheWay: new Set(files.filter(isLink).map(({ name }) => name)) };
  }

  /** What cannot be looked at has nothing that is known to be there. */
  async #entriesOf(path: string): Promise<RemoteEntry[]> {
    try {
      return await listRemote(this.#remote, path);
    } catch (error) {
      if (ApiError.is(error) && ["file_not_found", "file_forbidden", "file_conflict", "file_invalid"].includes(error.code)) return [];
      throw error;
    }
  }

  async #remove(path: string): Promise<void> {
    await callApi(this.#remote.address, {
      method: "DELETE",
      path: callPath(this.#remote, "delete", { path }),
      timeoutMs: DELETE_TIMEOUT_MS,
    });
  }

  async #sendTar(items: readonly Item[], how: { isWritable: boolean }): Promise<void> {
    const id = randomBytes(16).toString("hex");
    const query = { path: this.#tree.target, mkdirParents: this.#tree.parents, upload: id };
    const before = this.#progress.done;
    const show = (bytes: number): void => void (this.#progress.done = before + bytes);
    await showingArrived(this.#remote, { id, progress: this.#progress, show }, () =>
      upload(this.#remote, callPath(this.#remote, "tree", query), tarOf(items, { ...how, progress: this.#progress }), {
        headers: { "content-type": "application/x-tar" },
      }),
    );
    show(bytesOf(items));
  }
}

function bytesOf(items: readonly Item[]): number {
  return items.reduce((sum, item) => sum + (item.stat.isFile() ? item.stat.size : 0), 0);
}

/** Parents first: a name is longer than those of the directories it is in. */
function byPlace(one: Item, other: Item): number {
  if (one.name === other.name) return 0;
  return one.name < other.name ? -1 : 1;
}

/** Everything below a directory, parents first; links are not followed. What a cut `pull` left is none of it. */
async function walk(top: string): Promise<Item[]> {
  const items: Item[] = [];
  const enter = async (directory: string, prefix: string): Promise<void> => {
    const names = await localError(fs.promises.readdir(directory), directory);
    for (const name of names.toSorted()) {
      if (isPartName(name)) continue;
      const file = path.join(directory, name);
      const stat = await localError(fs.promises.lstat(file), file);
      items.push({ name: `${prefix}${name}`, file, stat });
      if (stat.isDirectory()) await enter(file, `${prefix}${name}/`);
    }
  };
  await enter(top, "");
  return items;
}

function tarOf(items: readonly Item[], how: { isWritable: boolean; progress: Progress }): Readable {
  const tar = pack();
  const fill = async (): Promise<void> => {
    for (const { name, file, stat } of items) {
      const mtimeMs = Math.floor(stat.mtimeMs);
      // The fraction of the second is what tells versions of a file apart that were made one right after the other.
      const header = { name, mode: stat.mode & 0o7777, mtime: new Date(mtimeMs), pax: { mtime: (mtimeMs / 1000).toFixed(3) } };
      if (stat.isDirectory()) tar.entry({ ...header, mode: header.mode | (how.isWritable ? 0o700 : 0), type: "directory" });
      else if (stat.isSymbolicLink()) tar.entry({ ...header, type: "symlink", linkname: await fs.promises.readlink(file) });
      else {
        how.progress.name = name;
        const entry = tar.entry({ ...header, type: "file", size: stat.size });
        // A file that grows meanwhile is sent as it was; one that shrinks breaks the stream.
        if (stat.size === 0) entry.end(null);
        else
          await pipeline(
            fs.createReadStream(file, { end: stat.size - 1, highWaterMark: READ_BYTES }),
            counting(how.progress),
            entry as unknown as NodeJS.WritableStream,
          );
      }
    }
    tar.finalize();
  };
  fill().catch((error: unknown) => tar.destroy(error instanceof Error ? error : new Error(String(error))));
  return Readable.from(tar as AsyncIterable<Uint8Array>, { objectMode: false, highWaterMark: READ_BYTES });
}

function counting(progress: Progress) {
  return async function* (source: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, void> {
    for await (const chunk of source) {
      progress.moved += chunk.length;
      yield chunk;
    }
  };
}
