/**
 * Writing one file (FS-3..FS-6): all at once or not at all, unless bytes are to go into the middle
 * or to the end of a file that is there.
 */
import fs from "node:fs";
import path from "node:path";
import type { FileRequestOf } from "@sprited/protocol/guest";
import { BREATH, errnoOf, fault, FileFault, type Ground, INPUT, naming, record, type Step, type Work } from "./call.ts";
import { elevated, isOwner } from "./caller.ts";
import { type Facts, factsOf } from "./facts.ts";
import { absolute, PARENTS, type Place, targetPlace } from "./place.ts";
import { requireRegular } from "./read.ts";
import { Staging, writeAll } from "./staging.ts";
import {
  changeMode,
  changeOwner,
  changeTimes,
  copyRange,
  type Fd,
  fileSystemMagic,
  O,
  openAt,
  reopen,
  seekData,
  seekHole,
} from "./syscalls.ts";
import type { Uploads } from "./uploads.ts";

const FILE_MODE = 0o644;
/** Bytes copied by one call. */
const COPY_BYTES = 8 * 1024 * 1024;
/** File systems whose files are the kernel's switches: proc, sysfs, cgroup. */
const SWITCHES: ReadonlySet<number> = new Set([0x9fa0, 0x62656572, 0x63677270]);

type WriteRequest = FileRequestOf<"write">;

export function* write(ground: Ground, request: WriteRequest, uploads: Uploads): Work {
  const target = absolute(ground, request.path);
  const parents = request.parents ? { parents: parentMode(request) } : {};
  using place = targetPlace(ground, target, parents);
  const before = naming(target, () => existing(place));
  if (request.if_match !== null && before?.etag !== request.if_match) throw fault("ESTALE", target, "the file has changed");
  if (request.how === "replace") yield* replace(place, request, { before, uploads });
  else yield* inPlace(place, request, before);
}

/** Clients make a directory by writing `.keep` into it, with the mode that the directory is to have. */
function parentMode(request: WriteRequest): number {
  return path.basename(request.path) === ".keep" && request.mode !== null ? request.mode | 0o100 : PARENTS;
}

/** What is at the place now, found to be writable. Undefined when nothing is. */
function existing(place: Place): Facts | undefined {
  let file: Fd;
  try {
    file = openAt(place.directory, place.name, O.PATH);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
  using open = file;
  const facts = factsOf(open);
  requireRegular(facts, place.path);
  try {
    using _ = reopen(open, O.WRONLY | O.NONBLOCK);
  } catch (error) {
    // A running program cannot be written, but replaced.
    if (errnoOf(error) !== "ETXTBSY") throw error;
  }
  return facts;
}

function* replace(place: Place, request: WriteRequest, options: { before: Facts | undefined; uploads: Uploads }): Work {
  const { before, uploads } = options;
  const isMount = before !== undefined && before.mount !== factsOf(place.directory).mount;
  const open = (): Staging => naming(place.path, () => Staging.open(place.directory, { canOverwrite: before !== undefined, isMount }));
  const upload = request.upload === null ? { staging: open(), offset: 0 } : uploads.begin(request.upload, request.offset, open);
  const { staging } = upload;
  let isReceived = false;
  try {
    for (let input = yield INPUT; input.kind !== "end"; input = yield INPUT) {
      if (request.upload !== null) uploads.requireRunning(request.upload, upload);
      if (input.kind !== "data") throw fault("EINVAL", place.path, "entries are for trees");
      const { bytes } = input;
      naming(place.path, () => staging.write(bytes, upload.offset, request.sparse));
      upload.offset += bytes.length;
    }
    if (request.upload !== null) uploads.requireRunning(request.upload, upload);
    isReceived = true;
    naming(place.path, () => fs.ftruncateSync(staging.file.number, upload.offset));
    yield* commit(place, staging, { before, mode: request.mode, mtimeMs: request.mtime_ms, size: upload.offset });
  } finally {
    if (request.upload === null) staging[Symbol.dispose]();
    else uploads.end(request.upload, upload, { isReceived });
  }
  yield written(place, upload.offset);
}

/** Puts what was received to its place, with the owner and mode it is to have. */
export function* commit(
  place: Place,
  staging: Staging,
  options: { before: Facts | undefined; mode: number | null; mtimeMs: number | null; size: number },
): Generator<Step, void> {
  const { before, mtimeMs, size } = options;
  if (!staging.inPlace) {
    naming(place.path, () => {
      attributes(staging.file, before, options.mode);
      if (mtimeMs !== null) elevated(() => changeTimes(staging.file, mtimeMs));
    });
    try {
      staging.moveTo(place, { isNew: before === undefined });
      return;
    } catch (error) {
      // Something is mounted there, or the directory keeps others' files: the file itself may be written.
      const isKept = before && ["EBUSY", "EXDEV", "EPERM", "EACCES"].includes(errnoOf(error) ?? "");
      if (!isKept) throw naming(place.path, () => thrown(error));
    }
  }
  using at = naming(place.path, () => openAt(place.directory, place.name, O.PATH));
  using file = naming(place.path, () => reopen(at, O.WRONLY | O.NONBLOCK));
  naming(place.path, () => fs.ftruncateSync(file.number, 0));
  yield* copyBytes(staging.file, file, size, place.path);
  if (!isOwner(before?.uid ?? -1)) return;
  if (options.mode !== null) changeMode(at, options.mode);
  if (mtimeMs !== null) changeTimes(at, mtimeMs);
}

function thrown(error: unknown): never {
  throw error;
}

/** An existing file keeps its owner; its mode too, unless another is asked for by who may change it. */
function attributes(file: Fd, before: Facts | undefined, asked: number | null): void {
  if (!before) return changeMode(file, asked ?? FILE_MODE);
  const now = factsOf(file);
  const isOurs = isOwner(before.uid);
  const mode = isOurs ? (asked ?? before.mode) : before.mode & 0o1777;
  elevated(() => {
    if (now.uid !== before.uid || now.gid !== before.gid) changeOwner(file, before.uid, before.gid);
    changeMode(file, mode);
  });
}

/** Copies data and leaves holes. */
export function* copyBytes(from: Fd, to: Fd, size: number, path: string): Generator<Step, void> {
  naming(path, () => fs.ftruncateSync(to.number, size));
  for (
    let at = naming(path, () => seekData(from, 0));
    at !== undefined && at < size;
    at = naming(path, () => seekData(from, at as number))
  ) {
    const end = Math.min(size, seekHole(from, at));
    while (at < end) {
      const offset: number = at;
      const count = naming(path, () => copyPiece(from, to, offset, Math.min(COPY_BYTES, end - offset)));
      if (count === 0) throw fault("ESTALE", path, "the file became shorter while it was copied");
      at += count;
      yield BREATH;
    }
  }
}

/** What the kernel does not copy between two files by itself. */
const NOT_IN_KERNEL: ReadonlySet<string> = new Set(["EXDEV", "EINVAL", "EOPNOTSUPP", "ENOSYS", "EPERM"]);

function copyPiece(from: Fd, to: Fd, offset: number, length: number): number {
  try {
    return copyRange(from, to, offset, length);
  } catch (error) {
    if (!NOT_IN_KERNEL.has(errnoOf(error) ?? "")) throw error;
  }
  const bytes = Buffer.alloc(Math.min(length, 1024 * 1024));
  const count = fs.readSync(from.number, bytes, 0, bytes.length, offset);
  writeAll(to, bytes.subarray(0, count), offset);
  return count;
}

/** Bytes go into the file as they come: what came before a lost connection stays. */
function* inPlace(place: Place, request: WriteRequest, before: Facts | undefined): Work {
  const isAppended = request.how === "append";
  using file = naming(place.path, () => openForWriting(place, before, request.mode, isAppended));
  let offset = request.offset;
  for (let input = yield INPUT; input.kind !== "end"; input = yield INPUT) {
    if (input.kind !== "data") throw fault("EINVAL", place.path, "entries are for trees");
    const { bytes } = input;
    naming(place.path, () => writeAll(file, bytes, isAppended ? null : offset));
    offset += bytes.length;
  }
  if (before && request.mode !== null && isOwner(before.uid)) naming(place.path, () => changeMode(file, request.mode ?? before.mode));
  yield written(place, factsOf(file).size);
}

function openForWriting(place: Place, before: Facts | undefined, mode: number | null, isAppended: boolean): Fd {
  const flags = O.WRONLY | O.NONBLOCK | (isAppended ? O.APPEND : 0);
  if (!before) {
    const file = openAt(place.directory, place.name, flags | O.CREAT | O.EXCL, mode ?? FILE_MODE);
    changeMode(file, mode ?? FILE_MODE);
    return file;
  }
  using at = openAt(place.directory, place.name, O.PATH);
  requireRegular(factsOf(at), place.path);
  const file = reopen(at, flags);
  if (!SWITCHES.has(fileSystemMagic(file))) return file;
  file[Symbol.dispose]();
  throw new FileFault("EPERM", "EPERM: the kernel's own files are written by commands in the sprite", { path: place.path });
}

function written(place: Place, size: number): Step {
  const facts = factsOf(place.directory, place.name);
  return record({ kind: "written", path: place.path, size, mode: facts.mode, etag: facts.etag });
}
