/** Calls that change what is there: remove, rename, copy, chmod, chown. */
import fs from "node:fs";
import { FILE_LIMITS, type FileChange, type FileRequestOf } from "@sprited/protocol/guest";
import { findId } from "../../spawn/user.ts";
import { BREATH, errnoOf, fault, type Ground, naming, record, type Step, type Work } from "./call.ts";
import { elevated } from "./caller.ts";
import { type Facts, factsOf } from "./facts.ts";
import { absolute, joined, look, type Place, placeOf, targetPlace } from "./place.ts";
import { DEPTH_MAX, ifThere, requireRegular, walk } from "./read.ts";
import { Staging } from "./staging.ts";
import {
  changeMode,
  changeOwner,
  changeTimes,
  type Fd,
  makeDirectory,
  type Name,
  O,
  openAt,
  openIn,
  readLink,
  readNames,
  removeDirectory,
} from "./syscalls.ts";
import { rename as renameCall, reopen, symlink, unlink } from "./syscalls.ts";
import { commit, copyBytes } from "./write.ts";

/** Collects what a call did: the first ones by name, all of them by number. */
class Changes {
  #pending: FileChange[] = [];
  #count = 0;
  #bytes = 0;

  *add(change: FileChange, bytes = 0): Generator<Step, void> {
    this.#count += 1;
    this.#bytes += bytes;
    if (this.#count <= FILE_LIMITS.namedMax) this.#pending.push(change);
    if (this.#pending.length >= FILE_LIMITS.entriesPerRecord) yield* this.#flush();
    else if (this.#count % 64 === 0) yield BREATH;
  }

  *end(): Generator<Step, void> {
    yield* this.#flush();
    yield record({ kind: "total", count: this.#count, bytes: this.#bytes });
  }

  *#flush(): Generator<Step, void> {
    if (this.#pending.length > 0) yield record({ kind: "changes", changes: this.#pending });
    this.#pending = [];
  }
}

export function* remove(ground: Ground, request: FileRequestOf<"remove">): Work {
  const path = absolute(ground, request.path);
  using place = placeOf(ground, path);
  const changes = new Changes();
  const { type } = naming(path, () => factsOf(place.directory, place.name));
  if (type === "directory") yield* removeTree(place.directory, place.name, { path, depth: request.recursive ? 0 : DEPTH_MAX, changes });
  else {
    naming(path, () => unlink(place.directory, place.name));
    yield* changes.add({ path });
  }
  yield* changes.end();
}

/** Removes a directory; its content first unless `depth` says that there must be none. */
function* removeTree(parent: Fd, name: Name, at: { path: string; depth: number; changes: Changes }): Generator<Step, void> {
  const { path, depth, changes } = at;
  if (depth < DEPTH_MAX) {
    using directory = naming(path, () => openAt(parent, name, O.RDONLY | O.DIRECTORY));
    const buffer = Buffer.alloc(32 * 1024);
    for (let names = readNames(directory, buffer); names.length > 0; names = readNames(directory, buffer)) {
      for (const child of names) {
        const childPath = joined(path, child);
        const facts = ifThere(() => factsOf(directory, child));
        if (facts?.type === "directory") yield* removeTree(directory, child, { path: childPath, depth: depth + 1, changes });
        else if (facts) {
          ifThere(() => naming(childPath, () => unlink(directory, child)));
          yield* changes.add({ path: childPath });
        }
      }
    }
  }
  naming(path, () => removeDirectory(parent, name));
  yield* changes.add({ path });
}

export function* rename(ground: Ground, request: FileRequestOf<"rename">): Work {
  const [source, dest] = [absolute(ground, request.source), absolute(ground, request.dest)];
  using from = placeOf(ground, source);
  naming(source, () => factsOf(from.directory, from.name));
  using to = placeOf(ground, dest);
  naming(dest, () => renameCall(from, to));
  yield record({ kind: "changes", changes: [{ path: source, dest }] });
  yield record({ kind: "total", count: 1, bytes: 0 });
}

interface CopyOptions {
  preserve: boolean;
  changes: Changes;
  /** Of the copy's own top, which is not copied again when it lies inside the source. */
  avoid: string | undefined;
  depth: number;
}

export function* copy(ground: Ground, request: FileRequestOf<"copy">): Work {
  const [source, dest] = [absolute(ground, request.source), absolute(ground, request.dest)];
  using from = look(ground, source, { follow: true });
  const facts = factsOf(from);
  const options: CopyOptions = { preserve: request.preserve, changes: new Changes(), avoid: undefined, depth: 0 };
  using to = targetPlace(ground, dest, {});
  if (facts.type !== "directory") {
    requireRegular(facts, source);
    yield* copyFile({ fd: from, facts, path: source }, to, options);
  } else {
    if (!request.recursive) throw fault("EISDIR", source, "is a directory; copy it with recursive");
    yield* copyDirectory({ fd: from, facts, path: source }, to, options);
  }
  yield* options.changes.end();
}

interface Source {
  fd: Fd;
  facts: Facts;
  path: string;
}

function* copyFile(source: Source, to: Place, options: CopyOptions): Generator<Step, void> {
  const before = naming(to.path, () => ifThere(() => factsOf(to.directory, to.name)));
  if (before?.type === "directory") throw fault("EISDIR", to.path);
  if (before?.identity === source.facts.identity) throw fault("EINVAL", to.path, "source and destination are the same file");
  using file = naming(source.path, () => reopen(source.fd, O.RDONLY | O.NONBLOCK));
  using staging = naming(to.path, () => Staging.open(to.directory, { canOverwrite: false, isMount: false }));
  yield* copyBytes(file, staging.file, source.facts.size, to.path);
  const isPlain = before?.type !== "file";
  if (options.preserve) naming(to.path, () => keepOwner(staging.file, source.facts));
  const kept = isPlain || options.preserve ? undefined : before;
  const mode = options.preserve || !kept ? source.facts.mode & 0o777 : null;
  yield* commit(to, staging, { before: kept, mode, mtimeMs: null, size: source.facts.size });
  if (options.preserve) naming(to.path, () => changeTimes(staging.file, source.facts.mtimeMs));
  yield* options.changes.add({ path: source.path, dest: to.path }, source.facts.size);
}

/** Only root can give files away; others keep what they made. */
function keepOwner(fd: Fd, facts: Facts): void {
  try {
    changeOwner(fd, facts.uid, facts.gid);
  } catch (error) {
    if (errnoOf(error) !== "EPERM") throw error;
  }
}

function* copyDirectory(source: Source, to: Place, options: CopyOptions): Generator<Step, void> {
  if (options.depth > DEPTH_MAX) throw fault("ENAMETOOLONG", source.path, "the directories are nested too deep");
  const isNew = naming(to.path, () => made(to));
  using target = naming(to.path, () => openAt(to.directory, to.name, O.PATH | O.DIRECTORY));
  const targetFacts = factsOf(target);
  if (targetFacts.identity === source.facts.identity) throw fault("EINVAL", to.path, "source and destination are the same directory");
  const below = { ...options, avoid: options.avoid ?? targetFacts.identity, depth: options.depth + 1 };
  using directory = naming(source.path, () => reopen(source.fd, O.RDONLY | O.DIRECTORY));
  for (const { name, path, facts } of walk(directory, source.path, { recursive: false })) {
    if (facts.identity === below.avoid) continue;
    const place: Place = { directory: target, name, path: joined(to.path, name), [Symbol.dispose]: () => {} };
    if (facts.type === "symlink") yield* copySymlink(directory, name, { path, place, changes: options.changes });
    else if (facts.type === "file" || facts.type === "directory") {
      using fd = naming(path, () => openAt(directory, name, O.PATH));
      yield* facts.type === "file" ? copyFile({ fd, facts, path }, place, below) : copyDirectory({ fd, facts, path }, place, below);
    } else throw fault("EINVAL", path, `a ${facts.type} cannot be copied`);
  }
  if (isNew || options.preserve) naming(to.path, () => changeMode(target, source.facts.mode & 0o777));
  if (options.preserve) {
    naming(to.path, () => keepOwner(target, source.facts));
    naming(to.path, () => changeTimes(target, source.facts.mtimeMs));
  }
  yield* options.changes.add({ path: source.path, dest: to.path });
}

/** Makes a directory that is writable until its own mode is set; false when one is there. */
function made(to: Place): boolean {
  try {
    makeDirectory(to.directory, to.name, 0o700);
    return true;
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") throw error;
    if (factsOf(to.directory, to.name).type !== "directory") throw fault("ENOTDIR", to.path);
    return false;
  }
}

function* copySymlink(directory: Fd, name: Name, to: { path: string; place: Place; changes: Changes }): Generator<Step, void> {
  naming(to.place.path, () => symlink(readLink(directory, name), to.place));
  yield* to.changes.add({ path: to.path, dest: to.place.path });
}

export function* chmod(ground: Ground, request: FileRequestOf<"chmod">): Work {
  const path = absolute(ground, request.path);
  const changes = new Changes();
  using fd = look(ground, path, { follow: true });
  const { type } = factsOf(fd);
  naming(path, () => changeMode(fd, request.mode));
  yield* changes.add({ path, mode: request.mode });
  if (request.recursive && type === "directory") {
    using top = naming(path, () => reopen(fd, O.RDONLY | O.DIRECTORY));
    for (const found of walk(top, path, { recursive: true })) {
      // The mode of a symlink means nothing, and that of what it names was not asked for.
      if (found.facts.type === "symlink") continue;
      naming(found.path, () => {
        using child = openAt(found.directory, found.name, O.PATH);
        changeMode(child, request.mode);
      });
      yield* changes.add({ path: found.path, mode: request.mode });
    }
  }
  yield* changes.end();
}

export function* chown(ground: Ground, request: FileRequestOf<"chown">): Work {
  const path = absolute(ground, request.path);
  const uid = idOf(ground, request.uid, "passwd", path);
  const gid = idOf(ground, request.gid, "group", path);
  const changes = new Changes();
  function* change(fd: Fd, at: string): Generator<Step, void> {
    naming(at, () => changeOwner(fd, uid, gid));
    const facts = factsOf(fd);
    yield* changes.add({ path: at, uid: facts.uid, gid: facts.gid });
  }
  using fd = look(ground, path, { follow: true });
  yield* change(fd, path);
  if (request.recursive && factsOf(fd).type === "directory") {
    using top = naming(path, () => reopen(fd, O.RDONLY | O.DIRECTORY));
    for (const found of walk(top, path, { recursive: true })) {
      using child = naming(found.path, () => openAt(found.directory, found.name, O.PATH));
      yield* change(child, found.path);
    }
  }
  yield* changes.end();
}

const TABLE_BYTES_MAX = 256 * 1024;

/** A number as it is, a name looked up in the sprite's own tables; -1 leaves the id as it is. */
function idOf(ground: Ground, asked: string | number | null, table: "passwd" | "group", path: string): number {
  if (asked === null) return -1;
  if (typeof asked === "number") return asked;
  if (/^[0-9]{1,10}$/.test(asked)) return Number(asked);
  const text = elevated(() => ifThere(() => readTable(ground, `/etc/${table}`)));
  const id = findId(asked, text ?? "");
  if (id === undefined) throw fault("EINVAL", path, `the sprite has no ${table === "group" ? "group" : "user"} of that name`);
  return id;
}

function readTable(ground: Ground, file: string): string {
  using at = openIn(ground.rootFd, file, O.PATH);
  if (factsOf(at).type !== "file") return "";
  using open = reopen(at, O.RDONLY | O.NONBLOCK);
  const bytes = Buffer.alloc(TABLE_BYTES_MAX);
  return bytes.subarray(0, fs.readSync(open.number, bytes, 0, bytes.length, 0)).toString("utf8");
}
