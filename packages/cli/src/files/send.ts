/**
 * One file into a sprite, in as many attempts as it takes: goes on at the right byte, also where an
 * earlier run stopped, and then compares the hashes.
 */
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { PassThrough, type Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { pipeline } from "node:stream/promises";
import { ApiError } from "@sprited/protocol/errors";
import { CliError } from "../output/cli-error.ts";
import { localError } from "./local.ts";
import { KEPT_BYTES_MIN } from "./part-file.ts";
import type { Progress } from "./progress.ts";
import { callPath, type Remote, statRemote, upload, uploadedBytes } from "./remote.ts";

const READ_BYTES = 256 * 1024;
/** How often the sprite is asked how much it has, ms. */
const ASK_EVERY_MS = 500;
/** Answers in a row that name another offset: what was on its way arrives in between. */
const OFFSET_ANSWERS_MAX = 20;

export interface Sending {
  local: string;
  /** Of `local` when it was looked at; a file that is another one afterwards is an error. */
  stat: fs.Stats;
  target: string;
  /** Makes missing directories. */
  parents: boolean;
  /** The file gets the time of the last change that it has here. */
  keepsTime: boolean;
}

export class FileSending {
  readonly #remote: Remote;
  readonly #file: Sending;
  readonly #progress: Progress;
  #upload: string;
  #isBegun = false;
  #isResumed = false;
  #isSent = false;
  /** The upload is one of its own: nothing of an earlier run is in it. */
  #isFresh = false;
  #shown = 0;

  constructor(remote: Remote, file: Sending, progress: Progress) {
    this.#remote = remote;
    this.#file = file;
    this.#progress = progress;
    this.#upload = uploadOf(remote, file);
  }

  /** How much of `Progress.done` is of this file, bytes. */
  get shown(): number {
    return this.#shown;
  }

  /** Sends what is missing. After a `ConnectionError` the next attempt goes on. */
  async attempt(): Promise<void> {
    const { local, stat, target } = this.#file;
    if (!this.#isSent) {
      // Of a small file nothing is worth being asked for.
      let offset = this.#isBegun || stat.size >= KEPT_BYTES_MIN ? await uploadedBytes(this.#remote, this.#upload) : 0;
      for (let answers = 0; ; answers += 1) {
        this.#isBegun = true;
        this.#isResumed ||= offset > 0;
        this.#show(offset);
        const right = await this.#send(offset);
        if (right === undefined) break;
        if (answers === OFFSET_ANSWERS_MAX) throw new ApiError("file_io", `${target} cannot be gone on with; send it again`);
        offset = right;
      }
      this.#isSent = true;
      this.#show(stat.size);
    }
    const now = await localError(fs.promises.stat(local), local);
    if (now.size !== stat.size || now.mtimeMs !== stat.mtimeMs)
      throw new CliError(`${local} was changed while it was sent.`, { hint: "Send it again.", code: "file_changed" });
    if (!this.#isResumed || (await this.#isSame())) return;
    if (this.#isFresh) throw new ApiError("file_io", `${target} is not what was sent; send it again`);
    this.#upload = randomBytes(16).toString("hex");
    [this.#isFresh, this.#isBegun, this.#isResumed, this.#isSent] = [true, false, false, false];
    await this.attempt();
  }

  /** Undefined when all has arrived, or the offset at which the sprite wants to go on. */
  async #send(offset: number): Promise<number | undefined> {
    const { local, stat, target, parents, keepsTime } = this.#file;
    const query = {
      path: target,
      upload: this.#upload,
      offset,
      mode: (stat.mode & 0o777).toString(8).padStart(4, "0"),
      mkdirParents: parents,
      mtime: keepsTime ? Math.max(0, Math.floor(stat.mtimeMs)) : undefined,
      // A file with holes keeps them.
      sparse: stat.blocks * 512 < stat.size ? true : undefined,
    };
    const body = counted(fs.createReadStream(local, { start: offset, highWaterMark: READ_BYTES }), (bytes) => {
      this.#progress.moved += bytes;
    });
    const headers = { "content-length": String(Math.max(0, stat.size - offset)) };
    try {
      await showingArrived(this.#remote, { id: this.#upload, progress: this.#progress, show: (bytes) => this.#show(bytes) }, () =>
        upload(this.#remote, callPath(this.#remote, "write", query), body, { headers }),
      );
      return undefined;
    } catch (error) {
      const right = ApiError.is(error) && error.code === "file_offset" ? error.details["offset"] : undefined;
      if (typeof right !== "number") throw error;
      return right;
    }
  }

  #show(bytes: number): void {
    this.#progress.done += bytes - this.#shown;
    this.#shown = bytes;
  }

  async #isSame(): Promise<boolean> {
    const hash = createHash("sha256");
    const [there] = await Promise.all([
      statRemote(this.#remote, this.#file.target, { digest: true }),
      pipeline(fs.createReadStream(this.#file.local), hash),
    ]);
    return there?.sha256 === hash.digest("hex");
  }
}

/** The same for every run that sends the same file to the same place. */
function uploadOf(remote: Remote, { local, stat, target }: Sending): string {
  const facts = [remote.sprite, target, path.resolve(local), stat.ino, stat.size, stat.mtimeMs];
  return createHash("sha256").update(JSON.stringify(facts)).digest("hex").slice(0, 32);
}

/**
 * Runs `work` and meanwhile shows on a terminal how much of an upload is in the sprite: bytes that
 * have left may still be lost on their way.
 */
export async function showingArrived<T>(
  remote: Remote,
  upload: { id: string; progress: Progress; show(bytes: number): void },
  work: () => Promise<T>,
): Promise<T> {
  if (!upload.progress.isShown) return await work();
  const stop = new AbortController();
  const asking = askArrived(remote, upload, stop.signal);
  try {
    return await work();
  } finally {
    stop.abort();
    await asking;
  }
}

/** Ends with the signal, or when the sprite cannot be asked: whether the connection holds shows where the bytes are sent. */
async function askArrived(remote: Remote, upload: { id: string; show(bytes: number): void }, signal: AbortSignal): Promise<void> {
  let most = 0;
  try {
    for (;;) {
      await delay(ASK_EVERY_MS, undefined, { signal });
      most = Math.max(most, await uploadedBytes(remote, upload.id));
      // A call that has just ended answers nothing of it.
      if (most > 0 && !signal.aborted) upload.show(most);
    }
  } catch {
    return;
  }
}

/** The same bytes, counted as they leave. */
export function counted(source: Readable, count: (bytes: number) => void): Readable {
  const out = new PassThrough({ highWaterMark: READ_BYTES });
  source.on("data", (chunk: Buffer) => count(chunk.length));
  source.once("error", (error) => out.destroy(error));
  out.once("close", () => source.destroy());
  source.pipe(out);
  return out;
}
