/**
 * What of a directory would not survive a power cut: contents written since the last flush of
 * their file, and names made, changed or removed since the last flush of their directory.
 *
 * The model is what Linux file systems with a journal promise (XFS, btrfs, ext4): a flush of a file makes
 * its content, its own name and the directories above it durable; a flush of a directory every
 * change of a name in it; whoever survives, what happened to the same name before survives too. All
 * else may be lost, in part or together. Removed trees wait in `trash` until they are gone for good.
 */
import fs from "node:fs";
import path from "node:path";
import type { Random } from "./random.ts";

/** What of a file is compared and put back; the rest of it is empty. */
const CONTENT_BYTES_MAX = 64 * 1024;

interface Content {
  bytes: Buffer;
  size: number;
}

/** A change of names that no flush has made durable. */
interface Change {
  /** Inode of the thing itself. */
  subject: number;
  /** Directories (inodes) and names it changed. */
  places: { directory: number; name: string }[];
  undo(random: Random): void;
}

interface Place {
  directory: number;
  name: string;
  /** Stays right when directories above are renamed. */
  at: string;
}

export class UnsyncedFiles {
  readonly #root: string;
  readonly #trash: string;
  #changes: Change[] = [];
  /** Last durable content of files that were written since, by inode. */
  readonly #contents = new Map<number, Content>();
  #open: (() => void)[] = [];
  #trashed = 0;

  /** `trash` lies on the same file system as `root` and outside of it. */
  constructor(root: string, trash: string) {
    this.#root = root;
    this.#trash = trash;
    fs.mkdirSync(trash);
  }

  covers(file: string): boolean {
    return file.startsWith(`${this.#root}/`);
  }

  /** A name that may be made by `act`: a file or a directory with those above it. */
  async made<T>(file: string, act: () => Promise<T>): Promise<T> {
    if (!this.covers(file)) return await act();
    const missing = missingFrom(file, this.#root);
    if (missing.length === 0) this.#written(file);
    const result = await act();
    for (const name of missing) this.#isMade(name);
    return result;
  }

  /** Content that `act` changes; `file` may also name an open handle. */
  async wrote<T>(file: string, act: () => Promise<T>): Promise<T> {
    this.#written(file);
    return await act();
  }

  async renamed(from: string, to: string, act: () => Promise<void>): Promise<void> {
    if (!this.covers(from)) return await act();
    const [before, after] = [this.#place(from), this.#place(to)];
    const replaced = statOf(to)?.isFile() ? this.#trashName() : undefined;
    if (replaced !== undefined) fs.linkSync(to, replaced);
    await act();
    const subject = statOf(to)?.ino ?? 0;
    this.#changes.push({
      subject,
      places: [before, after],
      undo: () => {
        if (statOf(after.at)?.ino !== subject) return;
        renameIfPossible(after.at, before.at);
        if (replaced !== undefined) renameIfPossible(replaced, after.at);
      },
    });
  }

  /** A name that goes, with everything below it. Does what `fs.rm` and its like do. */
  async removed(file: string, options: { recursive: boolean }, act: () => Promise<void>): Promise<void> {
    const stat = this.covers(file) ? statOf(file) : undefined;
    if (!stat || (stat.isDirectory() && !options.recursive)) return await act();
    const place = this.#place(file);
    const trash = this.#trashName();
    fs.renameSync(file, trash);
    this.#changes.push({
      subject: stat.ino,
      places: [place],
      undo: (random) => {
        if (statOf(place.at)) return;
        // A tree goes name by name: some of it may be gone for good.
        if (stat.isDirectory())
          for (const name of fs.readdirSync(trash)) if (random.chance(0.3)) fs.rmSync(path.join(trash, name), { recursive: true });
        renameIfPossible(trash, place.at);
      },
    });
  }

  /** A file or directory is flushed: `file` is its path or an open handle's. */
  synced(file: string): void {
    const at = realPath(file);
    const stat = at === undefined ? undefined : statOf(at);
    if (at === undefined || !stat || !this.covers(`${at}/`)) return;
    this.#contents.delete(stat.ino);
    const durable = new Set<Change>();
    const settle = (change: Change): void => {
      if (durable.has(change)) return;
      durable.add(change);
      for (const earlier of this.#changes) {
        if (earlier === change) break;
        if (earlier.places.some((one) => change.places.some((other) => one.directory === other.directory && one.name === other.name)))
          settle(earlier);
      }
    };
    const above = new Set<number>();
    for (let up = at; up.length > this.#root.length; up = path.dirname(up)) above.add(statOf(up)?.ino ?? 0);
    for (const change of this.#changes) {
      if (above.has(change.subject) || (stat.isDirectory() && change.places.some(({ directory }) => directory === stat.ino)))
        settle(change);
    }
    this.#changes = this.#changes.filter((change) => !durable.has(change));
  }

  /** Some time passes: everything is on the disk. */
  settle(): void {
    this.#changes = [];
    this.#contents.clear();
    for (const close of this.#open) close();
    this.#open = [];
    fs.rmSync(this.#trash, { recursive: true });
    fs.mkdirSync(this.#trash);
  }

  /** The power goes. Returns what was lost, for people. */
  cut(random: Random): string[] {
    const lost: string[] = [];
    const pathOf = new Map<number, string>();
    for (const entry of fs.readdirSync(this.#root, { recursive: true, withFileTypes: true })) {
      const at = path.join(entry.parentPath, entry.name);
      if (entry.isFile()) pathOf.set(fs.lstatSync(at).ino, at);
    }
    for (const [inode, content] of this.#contents) {
      const at = pathOf.get(inode);
      if (at === undefined || random.chance(0.3)) continue;
      lost.push(`content of ${path.relative(this.#root, at)}`);
      putBack(at, content, random);
    }
    // All of them, or as a journal that is written in order: from some change on.
    const from = random.chance(0.5) ? 0 : random.between(0, this.#changes.length);
    for (const change of this.#changes.slice(from).reverse()) {
      lost.push(`name ${change.places.map(({ name }) => name).join(" → ")}`);
      change.undo(random);
    }
    this.settle();
    return lost;
  }

  #isMade(file: string): void {
    const stat = statOf(file);
    if (!stat) return;
    const place = this.#place(file);
    if (stat.isFile()) this.#contents.set(stat.ino, { bytes: Buffer.alloc(0), size: 0 });
    this.#changes.push({
      subject: stat.ino,
      places: [place],
      undo: () => {
        if (statOf(place.at)?.ino === stat.ino) fs.rmSync(place.at, { recursive: true });
      },
    });
  }

  #written(file: string): void {
    const at = realPath(file);
    const stat = at === undefined || !this.covers(at) ? undefined : statOf(at);
    if (at === undefined || !stat?.isFile() || this.#contents.has(stat.ino)) return;
    this.#contents.set(stat.ino, contentOf(at, stat.size));
  }

  #place(file: string): Place {
    const handle = fs.openSync(path.dirname(file), fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
    this.#open.push(() => fs.closeSync(handle));
    const name = path.basename(file);
    return { directory: fs.fstatSync(handle).ino, name, at: `/proc/self/fd/${handle}/${name}` };
  }

  #trashName(): string {
    this.#trashed += 1;
    return path.join(this.#trash, String(this.#trashed));
  }
}

/** Names that are not there yet, from the topmost down to `file`. */
function missingFrom(file: string, root: string): string[] {
  const missing: string[] = [];
  for (let at = file; at.length > root.length && !statOf(at); at = path.dirname(at)) missing.unshift(at);
  return missing;
}

/** Puts a name back, unless its directory is gone for good. */
function renameIfPossible(from: string, to: string): void {
  try {
    fs.renameSync(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

function statOf(file: string): fs.Stats | undefined {
  return fs.lstatSync(file, { throwIfNoEntry: false });
}

/** Of a path below `/proc/self/fd` what it leads to now; undefined when that is gone. */
function realPath(file: string): string | undefined {
  if (!file.startsWith("/proc/self/fd/")) return file;
  const target = fs.readlinkSync(file);
  return target.endsWith(" (deleted)") ? undefined : target;
}

function contentOf(file: string, size: number): Content {
  const handle = fs.openSync(file, "r");
  try {
    const bytes = Buffer.alloc(Math.min(size, CONTENT_BYTES_MAX));
    fs.readSync(handle, bytes, 0, bytes.length, 0);
    return { bytes, size };
  } finally {
    fs.closeSync(handle);
  }
}

/** Nothing, zeros or half of what was written since has reached the disk. */
function putBack(file: string, { bytes, size }: Content, random: Random): void {
  const { size: now } = fs.lstatSync(file);
  const written = contentOf(file, now);
  const how = random.pick(["nothing", "zeros", "half"] as const);
  fs.truncateSync(file, 0);
  // Of what was appended a half, before what was there.
  const half = Math.floor((Math.min(bytes.length, written.bytes.length) + written.bytes.length) / 2);
  if (how === "half") fs.writeFileSync(file, Buffer.concat([written.bytes.subarray(0, half), bytes.subarray(half)]));
  else fs.writeFileSync(file, bytes);
  if (how === "nothing") fs.truncateSync(file, size);
  if (how === "zeros") fs.truncateSync(file, Math.max(now, size));
}
