/**
 * Between a guest's trees and tar streams. Names of a guest and of a client are both untrusted:
 * what a name may be is decided where it is opened, in the guest.
 */
import { Readable } from "node:stream";
import { ignore } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import type { TreeEntry } from "@sprited/protocol/guest";
import { extract, type Header, type Pack, pack } from "tar-stream";
import type { Bytes, TreeItem, TreeSource } from "./files.ts";

/** The last entry of a stream that lacks something: a line `CODE path` for each. */
export const INCOMPLETE_NAME = ".sprite-incomplete";
/** What a decimal fraction may lack of its ms as a floating-point number. */
const ROUNDING_MS = 1e-3;
/** Lines of it. */
const SKIPPED_MAX = 10_000;

/** A tree as a tar stream, made as fast as it is read. */
export function tarOf(items: AsyncIterable<TreeItem>): Bytes {
  const tar = pack();
  void fill(tar, items).then(
    () => tar.finalize(),
    (error: unknown) => tar.destroy(error instanceof Error ? error : new Error("the tree failed", { cause: error })),
  );
  return tar as AsyncIterable<Uint8Array>;
}

async function fill(tar: Pack, items: AsyncIterable<TreeItem>): Promise<void> {
  const skipped: string[] = [];
  let file: Entry | undefined;
  for await (const item of items) {
    if (item.kind === "bytes") {
      // Views into a frame: copied, because the next frame may come before they are written.
      if (file && !file.write(Buffer.from(item.bytes))) await drained(file, tar);
      continue;
    }
    if (file) await ended(file, tar);
    file = undefined;
    if (item.kind === "skipped") {
      if (skipped.length < SKIPPED_MAX) skipped.push(`${item.code} ${item.path.replaceAll("\n", "?")}\n`);
      continue;
    }
    const { entry } = item;
    const headers: Partial<Header> & { name: string } = {
      name: entry.path,
      mode: entry.mode,
      mtime: new Date(entry.mtime_ms),
      ...(entry.mtime_ms % 1000 === 0 ? {} : { pax: { mtime: (entry.mtime_ms / 1000).toFixed(3) } }),
      uid: entry.uid,
      gid: entry.gid,
    };
    if (entry.type === "directory") await whole(tar, { ...headers, type: "directory" });
    else if (entry.type === "symlink") await whole(tar, { ...headers, type: "symlink", linkname: entry.target ?? "" });
    else {
      file = tar.entry({ ...headers, type: "file", size: entry.size });
      file.on("error", ignore("the stream tells"));
    }
  }
  if (file) await ended(file, tar);
  if (skipped.length > 0) await whole(tar, { name: INCOMPLETE_NAME, mode: 0o600 }, skipped.join(""));
}

async function whole(tar: Pack, headers: Partial<Header> & { name: string }, content = ""): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    tar.once("close", resolve);
    tar.entry(headers, content, (error) => {
      tar.off("close", resolve);
      if (error) reject(error);
      else resolve();
    });
  });
}

type Entry = ReturnType<Pack["entry"]>;

/** Resolves when more may be written, or when the reader of the tar has gone. */
async function drained(file: Entry, tar: Pack): Promise<void> {
  if (tar.destroyed) throw new Error("the reader left");
  await new Promise<void>((resolve) => {
    const done = (): void => {
      file.off("drain", done);
      tar.off("close", done);
      resolve();
    };
    file.once("drain", done);
    tar.once("close", done);
  });
}

async function ended(file: Entry, tar: Pack): Promise<void> {
  if (tar.destroyed) throw new Error("the reader left");
  await new Promise<void>((resolve) => {
    const done = (): void => {
      file.off("close", done);
      file.off("finish", done);
      tar.off("close", done);
      resolve();
    };
    file.once("close", done);
    file.once("finish", done);
    tar.once("close", done);
    file.end(null);
  });
}

/** The entries of a tar stream, each to be read before the next one. Throws `body_invalid`. */
export async function* treeOf(tar: Bytes): AsyncGenerator<TreeSource, void, void> {
  const entries = extract();
  let sourceFailure: { error: unknown } | undefined;
  const guarded = (async function* () {
    try {
      yield* tar;
    } catch (error) {
      sourceFailure = { error };
      throw error;
    }
  })();
  const source = Readable.from(guarded, { objectMode: false, highWaterMark: 256 * 1024 });
  source.on("error", (error) => entries.destroy(error));
  source.pipe(entries);
  try {
    for await (const entry of entries) {
      const tree = treeEntryOf(entry.header);
      if (tree) yield { entry: tree, bytes: tree.type === "file" ? (entry as AsyncIterable<Uint8Array>) : undefined };
      entry.resume();
    }
  } catch (cause) {
    if (sourceFailure) throw sourceFailure.error;
    if (ApiError.is(cause)) throw cause;
    throw new ApiError("body_invalid", "the body is not a tar stream, or was cut", { cause });
  } finally {
    source.destroy();
    entries.destroy();
  }
}

/** Undefined for what has no place in a tree: devices, pipes. */
function treeEntryOf(header: Header): TreeEntry | undefined {
  const type = header.type === "contiguous-file" ? "file" : header.type;
  if (type !== "file" && type !== "directory" && type !== "symlink" && type !== "link") return undefined;
  if (header.name === INCOMPLETE_NAME) return undefined;
  const target = type === "symlink" || type === "link" ? (header.linkname ?? "") : null;
  if (
    header.name.includes("\0") ||
    Buffer.byteLength(header.name) > 4095 ||
    (target !== null && (target === "" || Buffer.byteLength(target) > 4095))
  )
    throw new ApiError("body_invalid", "an entry of the tar stream has a name that Linux does not take");
  return {
    path: header.name.replace(/^\/+/, "") || ".",
    type,
    size: type === "file" ? (header.size ?? 0) : 0,
    mode: (header.mode ?? 0o644) & 0o7777,
    mtime_ms: mtimeOf(header),
    target,
  };
}

/** To the ms where the tar has fractions of seconds. */
function mtimeOf(header: Header): number {
  const precise = Number((header.pax as { mtime?: string } | null | undefined)?.mtime ?? Number.NaN) * 1000;
  const ms = Math.floor(Number.isFinite(precise) ? precise + ROUNDING_MS : (header.mtime?.getTime() ?? 0));
  return Number.isSafeInteger(ms) ? ms : 0;
}
