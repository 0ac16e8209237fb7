/**
 * Whole trees in one stream (FS-10..FS-13): each entry followed by its bytes. Paths are relative to the
 * top, parents come before children; nothing is followed out of the tree.
 */
import { FILE_LIMITS, type FileRequestOf, type TreeEntry } from "@sprited/protocol/guest";
import { BREATH, errnoOf, fault, type Ground, type Input, INPUT, naming, record, type Work } from "./call.ts";
import { entryOf, factsOf } from "./facts.ts";
import { absolute, look, openDirectory, PARENTS, placeOf } from "./place.ts";
import { chunk, ifThere, walk } from "./read.ts";
import { temporaryName, writeAll } from "./staging.ts";
import type { Uploads } from "./uploads.ts";
import {
  changeMode,
  changeTimes,
  type Fd,
  link,
  makeDirectory,
  type Name,
  O,
  openAt,
  openIn,
  rename,
  reopen,
  symlink,
  unlink,
} from "./syscalls.ts";

/** Directories whose mode and time are set at the end. */
const DIRECTORIES_MAX = 1_000_000;

export function* readTree(ground: Ground, request: FileRequestOf<"tree_read">): Work {
  const path = absolute(ground, request.path);
  using fd = look(ground, path, { follow: true });
  const facts = factsOf(fd);
  if (facts.type !== "directory") throw fault("ENOTDIR", path);
  using top = naming(path, () => reopen(fd, O.RDONLY | O.DIRECTORY));
  yield record({ kind: "tree", entry: entryOf(facts, ".") });
  const skipped: { path: string; code: string }[] = [];
  for (const found of walk(top, ".", { recursive: true, onRefused: (at, code) => skipped.push({ path: at, code }) })) {
    for (const one of skipped.splice(0)) yield record({ kind: "skipped", path: one.path.slice(2), code: one.code });
    const relative = found.path.slice(2);
    if (found.facts.type === "directory") yield record({ kind: "tree", entry: entryOf(found.facts, relative) });
    else if (found.facts.type === "symlink") {
      const entry = ifThere(() => entryOf(found.facts, relative, found));
      if (entry) yield record({ kind: "tree", entry });
    } else if (found.facts.type === "file") yield* readOne(found.directory, found.name, relative);
    else yield record({ kind: "skipped", path: relative, code: "EINVAL" });
  }
  for (const one of skipped) yield record({ kind: "skipped", path: one.path.slice(2), code: one.code });
}

function* readOne(directory: Fd, name: Name, path: string): Work {
  let opened: Fd;
  try {
    opened = openAt(directory, name, O.RDONLY | O.NONBLOCK);
  } catch (error) {
    yield record({ kind: "skipped", path, code: errnoOf(error) ?? "EIO" });
    return;
  }
  using file = opened;
  const facts = factsOf(file);
  // Not what was found a moment ago: something took its place.
  if (facts.type !== "file") return;
  yield record({ kind: "tree", entry: entryOf(facts, path) });
  for (let at = 0; at < facts.size;) {
    const bytes = chunk(file, at, Math.min(FILE_LIMITS.dataBytesMax, facts.size - at), path);
    if (bytes.length === 0) throw fault("ESTALE", path, "the file became shorter while it was read");
    at += bytes.length;
    yield { kind: "data", bytes };
  }
}

export function* writeTree(ground: Ground, request: FileRequestOf<"tree_write">, uploads: Uploads): Work {
  const path = absolute(ground, request.path);
  using top = naming(path, () => openTop(ground, path, request.parents));
  const writer = new TreeWriter(top);
  using arrived = request.upload === null ? undefined : uploads.beginTree(request.upload);
  try {
    let count = 0;
    let bytes = 0;
    for (let input = yield INPUT; input.kind !== "end"; input = yield INPUT) {
      if (input.kind !== "entry") throw fault("EINVAL", path, "bytes without an entry");
      yield* writer.take(input.entry);
      count += 1;
      bytes += input.entry.type === "file" ? input.entry.size : 0;
      if (arrived) arrived.bytes = bytes;
    }
    yield* writer.finish();
    yield record({ kind: "total", count, bytes });
  } finally {
    writer[Symbol.dispose]();
  }
}

/** The directory of a tree is made if it is missing; those above it only with `parents`. */
function openTop(ground: Ground, path: string, parents: boolean): Fd {
  if (parents) return openDirectory(ground, path, PARENTS);
  try {
    return openDirectory(ground, path);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
  }
  using place = placeOf(ground, path);
  makeDirectory(place.directory, place.name, PARENTS);
  return openDirectory(ground, path);
}

class TreeWriter implements Disposable {
  readonly #top: Fd;
  /** The directory of the last entry: most entries are in the same one. */
  #last: { path: string; directory: Fd } | undefined;
  #directories: TreeEntry[] = [];

  constructor(top: Fd) {
    this.#top = top;
  }

  [Symbol.dispose](): void {
    this.#last?.directory[Symbol.dispose]();
  }

  *take(entry: TreeEntry): Work {
    const names = entry.path.split("/").filter((name) => name !== "" && name !== ".");
    if (names.includes("..")) throw fault("EINVAL", entry.path, "the path leads out of the tree");
    const name = names.pop();
    if (name === undefined) {
      if (entry.type !== "directory") throw fault("EINVAL", entry.path, "the path names nothing");
      this.#directories.push({ ...entry, path: "." });
      return;
    }
    const parent = naming(entry.path, () => this.#enter(names));
    const place = { directory: parent, name };
    if (entry.type === "directory") this.#makeDirectory(place, { ...entry, path: [...names, name].join("/") });
    else if (entry.type === "file") yield* this.#writeFile(place, entry);
    else naming(entry.path, () => this.#makeLink(place, entry));
  }

  /** Modes and times of directories, after everything was put into them. */
  *finish(): Work {
    for (const [index, entry] of this.#directories.toReversed().entries()) {
      naming(entry.path, () => {
        using directory = openIn(this.#top.number, entry.path, O.PATH | O.DIRECTORY, { beneath: true });
        changeTimes(directory, entry.mtime_ms);
        changeMode(directory, entry.mode & 0o777);
      });
      if (index % 64 === 0) yield BREATH;
    }
  }

  #enter(names: readonly string[]): Fd {
    const path = names.length === 0 ? "." : names.join("/");
    if (this.#last?.path === path) return this.#last.directory;
    let directory: Fd;
    try {
      directory = openIn(this.#top.number, path, O.PATH | O.DIRECTORY, { beneath: true });
    } catch (error) {
      const last = names.at(-1);
      if (errnoOf(error) !== "ENOENT" || last === undefined) throw error;
      makeDirectory(this.#enter(names.slice(0, -1)), last, PARENTS);
      directory = openIn(this.#top.number, path, O.PATH | O.DIRECTORY, { beneath: true });
    }
    this.#last?.directory[Symbol.dispose]();
    this.#last = { path, directory };
    return directory;
  }

  #makeDirectory(place: { directory: Fd; name: string }, entry: TreeEntry): void {
    if (this.#directories.length >= DIRECTORIES_MAX) throw fault("EFBIG", entry.path, "too many directories");
    naming(entry.path, () => {
      try {
        makeDirectory(place.directory, place.name, 0o700);
      } catch (error) {
        if (errnoOf(error) !== "EEXIST") throw error;
        if (factsOf(place.directory, place.name).type !== "directory") throw fault("EEXIST", entry.path, "something else has that name");
      }
    });
    this.#directories.push(entry);
  }

  /** Under a name of ours until it is whole. */
  *#writeFile(place: { directory: Fd; name: string }, entry: TreeEntry): Work {
    const temporary = { directory: place.directory, name: temporaryName() };
    const flags = O.CREAT | O.EXCL | O.WRONLY;
    using file = naming(entry.path, () => openAt(temporary.directory, temporary.name, flags, 0o600));
    let isPlaced = false;
    try {
      for (let offset = 0; offset < entry.size;) {
        const input: Input = yield INPUT;
        if (input.kind !== "data" || offset + input.bytes.length > entry.size)
          throw fault("EINVAL", entry.path, "not as many bytes as announced");
        const { bytes } = input;
        naming(entry.path, () => writeAll(file, bytes, null));
        offset += bytes.length;
      }
      naming(entry.path, () => {
        changeMode(file, entry.mode & 0o777);
        changeTimes(file, entry.mtime_ms);
        rename(temporary, place);
      });
      isPlaced = true;
    } finally {
      if (!isPlaced) ifThere(() => unlink(temporary.directory, temporary.name));
    }
  }

  #makeLink(place: { directory: Fd; name: string }, entry: TreeEntry): void {
    const target = entry.target ?? "";
    const temporary = { directory: place.directory, name: temporaryName() };
    if (entry.type === "symlink") symlink(target, temporary);
    else {
      const names = target.split("/").filter((name) => name !== "" && name !== ".");
      const name = names.pop();
      if (name === undefined || names.includes("..")) throw fault("EINVAL", entry.path, "the link leads out of the tree");
      using directory = openIn(this.#top.number, names.length === 0 ? "." : names.join("/"), O.PATH | O.DIRECTORY, { beneath: true });
      link({ directory, name }, temporary);
    }
    try {
      rename(temporary, place);
    } catch (error) {
      unlink(temporary.directory, temporary.name);
      throw error;
    }
    if (entry.type !== "symlink") return;
    using at = openAt(place.directory, place.name, O.PATH);
    changeTimes(at, entry.mtime_ms);
  }
}
