/**
 * One file out of a sprite, in as many attempts as it takes: goes on at the right byte, also where
 * an earlier run stopped, and then compares the hashes. Whole under its name, or not there at all.
 */
import { createHash } from "node:crypto";
import fs from "node:fs";
import { pipeline } from "node:stream/promises";
import { ApiError } from "@sprited/protocol/errors";
import { CliError } from "../output/cli-error.ts";
import { localError, secondsOf } from "./local.ts";
import { KEPT_BYTES_MIN, type LeftParts, partOf } from "./part-file.ts";
import type { Progress } from "./progress.ts";
import { callPath, chunksOf, download, type Remote, statRemote } from "./remote.ts";

/** Zeros in pieces of this size become holes again, bytes. */
const HOLE_BYTES = 64 * 1024;
const ZEROS = Buffer.alloc(HOLE_BYTES);

/** What is to be fetched, and to where. */
export interface Wanted {
  source: string;
  to: string;
  /** The file gets the time of the last change that it has in the sprite. */
  keepsTime: boolean;
  /** How the file was when it was last looked at; a part of this version is gone on with. */
  seen?: { size: number; mtimeMs: number } | undefined;
}

interface Open {
  file: fs.promises.FileHandle;
  path: string;
}

export class FileReceiving implements AsyncDisposable {
  readonly #remote: Remote;
  readonly #wanted: Wanted;
  readonly #progress: Progress;
  readonly #left: LeftParts;
  #part: Open | undefined;
  /** Bytes that are in the part. */
  #offset = 0;
  /** Of the version that the part is of; known once an answer or a look has told. */
  #facts: { size: number | undefined; mtimeMs: number; mode: number; etag: string | undefined } | undefined;
  #isResumed = false;
  #isCompared = false;

  constructor(remote: Remote, wanted: Wanted, parts: { progress: Progress; left: LeftParts }) {
    this.#remote = remote;
    this.#wanted = wanted;
    this.#progress = parts.progress;
    this.#left = parts.left;
  }

  /** Bytes that are here. */
  get received(): number {
    return this.#offset;
  }

  /** Fetches what is missing and puts the file to its place. After a `ConnectionError` the next attempt goes on. Returns the bytes. */
  async attempt(): Promise<number> {
    if (!this.#part) await this.#claim();
    if (this.#facts?.size === undefined || this.#offset !== this.#facts.size) await this.#receive();
    const { part, facts } = this.#opened();
    const { to, keepsTime } = this.#wanted;
    await localError(part.file.truncate(this.#offset), to);
    if (this.#isResumed && !(await this.#isSame(part.path))) {
      if (this.#isCompared)
        throw new CliError(`${this.#wanted.source} was changed while it was fetched.`, { hint: "Fetch it again.", code: "file_changed" });
      this.#isCompared = true;
      this.#restart();
      return await this.attempt();
    }
    await localError(part.file.chmod(facts.mode & 0o777), to);
    if (keepsTime) await localError(part.file.utimes(secondsOf(facts.mtimeMs), secondsOf(facts.mtimeMs)), to);
    await localError(fs.promises.rename(part.path, to), to);
    await part.file.close();
    this.#part = undefined;
    return this.#offset;
  }

  /** Lets go of what is not whole; a larger part stays for the next run. */
  async [Symbol.asyncDispose](): Promise<void> {
    const part = this.#part;
    this.#part = undefined;
    await part?.file.close();
    if (part && this.#offset < KEPT_BYTES_MIN) await fs.promises.rm(part.path, { force: true });
  }

  /** Goes on with what an earlier run left of the same version. */
  async #claim(): Promise<void> {
    const { seen, source, to } = this.#wanted;
    if (!seen) return;
    const path = await this.#left.claim(to, { remote: this.#remote, source, ...seen });
    if (path === undefined) return;
    const there = seen.size < KEPT_BYTES_MIN ? undefined : await statRemote(this.#remote, source);
    if (there?.size !== seen.size || there.mtimeMs !== seen.mtimeMs) {
      await fs.promises.rm(path, { force: true });
      return;
    }
    this.#part = { file: await localError(fs.promises.open(path, "r+"), to), path };
    this.#facts = { ...there };
    this.#moveTo(Math.min(there.size, (await this.#part.file.stat()).size));
    this.#isResumed = this.#offset > 0;
  }

  async #receive(): Promise<void> {
    const etag = this.#facts?.etag;
    // A file that changed meanwhile is fetched anew, from its first byte.
    const resumed =
      this.#offset === 0 || etag === undefined ? undefined : await this.#ask({ range: `bytes=${this.#offset}-`, "if-match": etag });
    const answer = resumed ?? (await this.#ask({})) ?? missing(this.#wanted.source);
    if (answer.statusCode === 206) this.#isResumed = true;
    else this.#restart();
    const { headers } = answer;
    const length = headers["content-length"] === undefined ? undefined : Number(headers["content-length"]);
    const size = length === undefined ? undefined : this.#offset + length;
    const mode = Number.parseInt(String(headers["x-file-mode"] ?? "644"), 8);
    this.#facts = { size, mode, mtimeMs: Number(headers["x-file-mtime"] ?? 0), etag: headers.etag };
    if (this.#progress.total === undefined && size !== undefined) this.#progress.total = size;
    const isSparse = size !== undefined && Number(headers["x-file-allocated"] ?? size) < size;
    try {
      const { file } = await this.#partFor(this.#facts);
      for await (const chunk of chunksOf(answer)) {
        await localError(writePieces(file, chunk, { offset: this.#offset, isSparse }), this.#wanted.to);
        this.#progress.moved += chunk.length;
        this.#moveTo(this.#offset + chunk.length);
      }
    } finally {
      answer.destroy();
    }
  }

  /** Undefined when what was asked for is not there any more as it was. */
  async #ask(headers: Record<string, string>) {
    try {
      return await download(this.#remote, callPath(this.#remote, "read", { path: this.#wanted.source }), headers);
    } catch (error) {
      if (ApiError.is(error) && (error.code === "file_changed" || error.code === "file_range")) return undefined;
      throw error;
    }
  }

  /** The part for the version that the answer is of; what came of another one is overwritten. */
  async #partFor({ size, mtimeMs }: { size: number | undefined; mtimeMs: number }): Promise<Open> {
    const { source, to } = this.#wanted;
    const path = partOf(to, { remote: this.#remote, source, size: size ?? 0, mtimeMs });
    if (!this.#part) {
      await fs.promises.rm(path, { force: true });
      this.#part = { file: await localError(fs.promises.open(path, "wx+", 0o600), to), path };
    } else if (this.#part.path !== path) {
      await localError(fs.promises.rename(this.#part.path, path), to);
      this.#part = { file: this.#part.file, path };
    }
    if (this.#offset === 0) await this.#part.file.truncate(0);
    return this.#part;
  }

  #restart(): void {
    this.#moveTo(0);
    this.#isResumed = false;
    this.#facts = undefined;
  }

  #moveTo(offset: number): void {
    this.#progress.done += offset - this.#offset;
    this.#offset = offset;
  }

  #opened() {
    if (!this.#part || !this.#facts) throw new Error("nothing was received");
    return { part: this.#part, facts: this.#facts };
  }

  async #isSame(local: string): Promise<boolean> {
    const hash = createHash("sha256");
    const [there] = await Promise.all([
      statRemote(this.#remote, this.#wanted.source, { digest: true }),
      pipeline(fs.createReadStream(local), hash),
    ]);
    return there?.sha256 === hash.digest("hex");
  }
}

function missing(source: string): never {
  throw new CliError(`${source} is not what it was.`, { hint: "Fetch it again.", code: "file_changed" });
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
