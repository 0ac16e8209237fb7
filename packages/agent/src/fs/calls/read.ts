/** Looking at files and reading them: stat, list, read. */
import { createHash } from "node:crypto";
import fs from "node:fs";
import { FILE_LIMITS, type FileEntry, type FileRequestOf } from "@sprited/protocol/guest";
import { BREATH, errnoOf, fault, type Ground, naming, record, type Work } from "./call.ts";
import { entryOf, factsOf, type Facts } from "./facts.ts";
import { matcher } from "./glob.ts";
import { absolute, joined, look, placeOf } from "./place.ts";
import { type Fd, type Name, O, openAt, readNames, reopen } from "./syscalls.ts";

const NAMES_BYTES = 32 * 1024;
/** Deepest directory that is entered. */
export const DEPTH_MAX = 1000;

export function* stat(ground: Ground, request: FileRequestOf<"stat">): Work {
  const path = absolute(ground, request.path);
  const entry = request.follow ? entryFollowed(ground, path) : entryAt(ground, path);
  let digest: string | null = null;
  if (request.digest) {
    using file = openRegular(ground, path).file;
    const hash = createHash("sha256");
    for (let at = 0; ;) {
      const bytes = chunk(file, at, FILE_LIMITS.dataBytesMax, path);
      if (bytes.length === 0) break;
      hash.update(bytes);
      at += bytes.length;
      yield BREATH;
    }
    digest = hash.digest("hex");
  }
  yield record({ kind: "file", entry, from: 0, length: 0, digest });
}

function entryFollowed(ground: Ground, path: string): FileEntry {
  using fd = look(ground, path, { follow: true });
  return entryOf(factsOf(fd), path);
}

/** The entry of a name itself, also of a symlink. */
function entryAt(ground: Ground, path: string): FileEntry {
  if (/(^|\/)\.{0,2}\/*$/.test(path)) return entryFollowed(ground, path);
  using place = placeOf(ground, path);
  return naming(path, () => entryOf(factsOf(place.directory, place.name), path, place));
}

/** The children of a directory, or the one entry of a file. */
export function* list(ground: Ground, request: FileRequestOf<"list">): Work {
  const path = absolute(ground, request.path);
  const matches = request.pattern === null ? undefined : matcher(request.pattern);
  using fd = look(ground, path, { follow: true });
  const facts = factsOf(fd);
  let batch: FileEntry[] = [];
  if (facts.type !== "directory") {
    yield record({ kind: "entries", entries: [entryOf(facts, path)] });
    return;
  }
  using top = naming(path, () => reopen(fd, O.RDONLY | O.DIRECTORY));
  for (const found of walk(top, path, { recursive: request.recursive })) {
    const relative = found.path.slice(path.endsWith("/") ? path.length : path.length + 1);
    if (matches && !matches(relative)) {
      if (found.count % 256 === 0) yield BREATH;
      continue;
    }
    batch.push(entryOf(found.facts, found.path, found));
    if (batch.length < FILE_LIMITS.entriesPerRecord) continue;
    yield record({ kind: "entries", entries: batch });
    batch = [];
  }
  yield record({ kind: "entries", entries: batch });
}

/** Something found in a directory. */
export interface Found {
  directory: Fd;
  name: Buffer;
  path: string;
  facts: Facts;
  /** How many were found so far. */
  count: number;
}

/**
 * Everything in a directory, parents before children; symlinks are not entered. What vanishes
 * meanwhile is passed over; a directory that may not be entered is thrown, or told to `onRefused`.
 */
export function* walk(
  top: Fd,
  path: string,
  options: { recursive: boolean; onRefused?: (path: string, code: string) => void },
): Generator<Found, void> {
  const buffer = Buffer.alloc(NAMES_BYTES);
  let count = 0;
  function* enter(directory: Fd, at: string, depth: number): Generator<Found, void> {
    for (let names = readNames(directory, buffer); names.length > 0; names = readNames(directory, buffer)) {
      for (const name of names) {
        const facts = ifThere(() => factsOf(directory, name));
        if (!facts) continue;
        const child = joined(at, name);
        yield { directory, name, path: child, facts, count: (count += 1) };
        if (!options.recursive || facts.type !== "directory") continue;
        if (depth >= DEPTH_MAX) throw fault("ENAMETOOLONG", child, "the directories are nested too deep");
        using below = enterDirectory(directory, name, child, options.onRefused);
        if (below) yield* enter(below, child, depth + 1);
      }
    }
  }
  yield* enter(top, path, 1);
}

function enterDirectory(directory: Fd, name: Name, path: string, onRefused?: (path: string, code: string) => void): Fd | undefined {
  try {
    return ifThere(() => naming(path, () => openAt(directory, name, O.RDONLY | O.DIRECTORY)));
  } catch (error) {
    if (!onRefused) throw error;
    onRefused(path, errnoOf(error) ?? "EIO");
    return undefined;
  }
}

/** Undefined when what was found has gone meanwhile. */
export function ifThere<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

export function* read(ground: Ground, request: FileRequestOf<"read">): Work {
  const path = absolute(ground, request.path);
  const { file: opened, facts } = openRegular(ground, path);
  using file = opened;
  if (request.if_match !== null && request.if_match !== facts.etag) throw fault("ESTALE", path, "the file has changed");
  const from = request.offset < 0 ? Math.max(0, facts.size + request.offset) : request.offset;
  const rest = Math.max(0, facts.size - from);
  // Files of /proc say that they are empty; their length shows at their end alone.
  const isUnsized = facts.size === 0 && from === 0;
  const length = request.length === null ? rest : Math.min(rest, request.length);
  yield record({ kind: "file", entry: entryOf(facts, path), from, length, digest: null });
  for (let at = from; isUnsized || at < from + length;) {
    const wanted = isUnsized ? FILE_LIMITS.dataBytesMax : Math.min(FILE_LIMITS.dataBytesMax, from + length - at);
    const bytes = chunk(file, at, wanted, path);
    if (bytes.length === 0) {
      if (isUnsized) return;
      throw fault("ESTALE", path, "the file became shorter while it was read");
    }
    at += bytes.length;
    yield { kind: "data", bytes };
  }
}

/** Opens a regular file for reading; looks before it opens, because opening a device may do something. */
export function openRegular(ground: Ground, path: string): { file: Fd; facts: Facts } {
  using fd = look(ground, path, { follow: true });
  const facts = factsOf(fd);
  requireRegular(facts, path);
  return { file: naming(path, () => reopen(fd, O.RDONLY | O.NONBLOCK)), facts };
}

/** Throws `EISDIR` or `EINVAL` for anything but a regular file. */
export function requireRegular(facts: Facts, path: string): void {
  if (facts.type === "directory") throw fault("EISDIR", path);
  if (facts.type !== "file") throw fault("EINVAL", path, `a ${facts.type}, not a regular file`);
}

/** Up to `length` bytes in a buffer of their own. */
export function chunk(file: Fd, offset: number, length: number, path: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  const count = naming(path, () => fs.readSync(file.number, bytes, 0, length, offset));
  return count === length ? bytes : bytes.slice(0, count);
}
