/**
 * File system calls relative to descriptors, through the C library. For the thread that does file
 * work: all of them may block.
 *
 * Invariants: every path given as text is resolved inside the root it is given with; magic links
 * are refused; every descriptor is close-on-exec and owned by an `Fd`.
 */
import fs from "node:fs";
import koffi from "koffi";
import { SystemCallError } from "../../sys/libc.ts";

const library = koffi.load(null);

function bind(symbol: string, parameters: readonly string[], name = symbol): (...values: unknown[]) => number {
  const call = library.func(symbol, "int64", [...parameters]);
  return (...values) => {
    const result = Number(call(...values));
    if (result !== -1) return result;
    throw new SystemCallError(name, koffi.errno());
  };
}

/** The same for functions whose C prototype returns int: a negative result may arrive as its unsigned twin. */
function bindInt(symbol: string, parameters: readonly string[]): (...values: unknown[]) => number {
  const call = library.func(symbol, "int", [...parameters]);
  return (...values) => {
    const result = Number(call(...values));
    if (result !== -1) return result;
    throw new SystemCallError(symbol, koffi.errno());
  };
}

const SYS_OPENAT2 = 437;
const SYS_GETDENTS64 = 217;
const openat2Call = bind("syscall", ["long", "int", "void *", "void *", "size_t"], "openat2");
const getdentsCall = bind("syscall", ["long", "int", "void *", "size_t"], "getdents64");
const openatCall = bindInt("openat", ["int", "void *", "int", "uint"]);
const mkdiratCall = bindInt("mkdirat", ["int", "void *", "uint"]);
const unlinkatCall = bindInt("unlinkat", ["int", "void *", "int"]);
const renameat2Call = bindInt("renameat2", ["int", "void *", "int", "void *", "uint"]);
const symlinkatCall = bindInt("symlinkat", ["void *", "int", "void *"]);
const linkatCall = bindInt("linkat", ["int", "void *", "int", "void *", "int"]);
const readlinkatCall = bind("readlinkat", ["int", "void *", "void *", "size_t"]);
const fchownatCall = bindInt("fchownat", ["int", "void *", "uint", "uint", "int"]);
const utimensatCall = bindInt("utimensat", ["int", "void *", "void *", "int"]);
const statxCall = bindInt("statx", ["int", "void *", "int", "uint", "void *"]);
const fstatfsCall = bindInt("fstatfs", ["int", "void *"]);
const lseekCall = bind("lseek", ["int", "int64", "int"]);
const copyFileRangeCall = bind("copy_file_range", ["int", "void *", "int", "void *", "size_t", "uint"]);
const inotifyAddWatchCall = bindInt("inotify_add_watch", ["int", "void *", "uint"]);

export const O = {
  RDONLY: 0,
  WRONLY: 1,
  RDWR: 2,
  CREAT: 0o100,
  EXCL: 0o200,
  APPEND: 0o2000,
  NONBLOCK: 0o4000,
  DIRECTORY: 0o200000,
  NOFOLLOW: 0o400000,
  CLOEXEC: 0o2000000,
  PATH: 0o10000000,
  /** An unnamed file in the directory that is opened. */
  TMPFILE: 0o20200000,
} as const;

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_REMOVEDIR = 0x200;
const AT_SYMLINK_FOLLOW = 0x400;
const AT_EMPTY_PATH = 0x1000;
const RESOLVE_NO_MAGICLINKS = 0x02;
const RESOLVE_NO_SYMLINKS = 0x04;
const RESOLVE_BENEATH = 0x08;
const RESOLVE_IN_ROOT = 0x10;
/** Attempts at a resolution that a rename disturbed. */
const RESOLVE_ATTEMPTS = 64;

/** A name in a directory: bytes, because Linux takes any. */
export type Name = string | Buffer;

/** An owned descriptor; disposing closes it. */
export class Fd implements Disposable {
  readonly number: number;
  #open = true;
  constructor(number: number) {
    this.number = number;
  }
  [Symbol.dispose](): void {
    if (this.#open) fs.closeSync(this.number);
    this.#open = false;
  }
}

/** Text or bytes as a C string. */
function cString(name: Name): Buffer {
  return Buffer.concat([typeof name === "string" ? Buffer.from(name) : name, Buffer.alloc(1)]);
}

/**
 * Opens `path` as if the directory `rootFd` were `/`. With `beneath`, below `rootFd` and through no
 * symlink at all.
 */
export function openIn(rootFd: number, path: Name, flags: number, options: { mode?: number; beneath?: boolean } = {}): Fd {
  const how = Buffer.alloc(24);
  how.writeBigUInt64LE(BigInt(flags | O.CLOEXEC), 0);
  how.writeBigUInt64LE(BigInt(options.mode ?? 0), 8);
  const resolve = options.beneath === true ? RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS : RESOLVE_IN_ROOT;
  how.writeBigUInt64LE(BigInt(resolve | RESOLVE_NO_MAGICLINKS), 16);
  const text = cString(path);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return new Fd(openat2Call(SYS_OPENAT2, rootFd, text, how, how.length));
    } catch (error) {
      // Something on the way was renamed meanwhile.
      if (!(error instanceof SystemCallError) || error.code !== "EAGAIN" || attempt === RESOLVE_ATTEMPTS) throw error;
    }
  }
}

/** Opens `name` in a directory, never through a symlink. */
export function openAt(directory: Fd, name: Name, flags: number, mode = 0): Fd {
  return new Fd(openatCall(directory.number, cString(name), flags | O.NOFOLLOW | O.CLOEXEC, mode));
}

/** A new description of what `fd` refers to, with this thread's permissions. */
export function reopen(fd: Fd, flags: number): Fd {
  return new Fd(fs.openSync(ownPath(fd), flags | O.CLOEXEC));
}

/** Where this process finds one of its own descriptors. */
function ownPath(fd: Fd): string {
  return `/proc/self/fd/${fd.number}`;
}

export function makeDirectory(directory: Fd, name: Name, mode: number): void {
  mkdiratCall(directory.number, cString(name), mode);
}

export function unlink(directory: Fd, name: Name): void {
  unlinkatCall(directory.number, cString(name), 0);
}

export function removeDirectory(directory: Fd, name: Name): void {
  unlinkatCall(directory.number, cString(name), AT_REMOVEDIR);
}

export interface At {
  directory: Fd;
  name: Name;
}

export function rename(from: At, to: At): void {
  renameat2Call(from.directory.number, cString(from.name), to.directory.number, cString(to.name), 0);
}

export function symlink(target: Name, at: At): void {
  symlinkatCall(cString(target), at.directory.number, cString(at.name));
}

/** Another name for the same file; symlinks are not followed. */
export function link(from: At, to: At): void {
  linkatCall(from.directory.number, cString(from.name), to.directory.number, cString(to.name), 0);
}

/** Gives an unnamed file a name. */
export function linkUnnamed(fd: Fd, to: At): void {
  linkatCall(AT_FDCWD, cString(ownPath(fd)), to.directory.number, cString(to.name), AT_SYMLINK_FOLLOW);
}

export function readLink(directory: Fd, name: Name): Buffer {
  const bytes = Buffer.alloc(4096);
  return bytes.subarray(0, readlinkatCall(directory.number, cString(name), bytes, bytes.length));
}

/** Of what `fd` refers to, symlinks included. `-1` leaves an id as it is. */
export function changeOwner(fd: Fd, uid: number, gid: number): void {
  fchownatCall(fd.number, cString(""), uid >>> 0, gid >>> 0, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
}

/** Of what `fd` refers to, which must not be a symlink. */
export function changeMode(fd: Fd, mode: number): void {
  fs.chmodSync(ownPath(fd), mode);
}

/** Sets the time of the last change, also of a symlink. ms since the epoch. */
export function changeTimes(fd: Fd, mtimeMs: number): void {
  const times = Buffer.alloc(32);
  const seconds = Math.floor(mtimeMs / 1000);
  for (const at of [0, 16]) {
    times.writeBigInt64LE(BigInt(seconds), at);
    times.writeBigInt64LE(BigInt(Math.round((mtimeMs - seconds * 1000) * 1e6)), at + 8);
  }
  utimensatCall(fd.number, cString(""), times, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
}

/** statx of `name` in a directory, or of `fd` itself with an empty name; never through a symlink. */
export function statBytes(fd: number, name: Name): Buffer {
  const STATX_BASIC_STATS = 0x7ff;
  const bytes = Buffer.alloc(256);
  const flags = AT_SYMLINK_NOFOLLOW | (name.length === 0 ? AT_EMPTY_PATH : 0);
  statxCall(fd, cString(name), flags, STATX_BASIC_STATS, bytes);
  return bytes;
}

/** Magic number of the file system behind `fd`. */
export function fileSystemMagic(fd: Fd): number {
  const bytes = Buffer.alloc(128);
  fstatfsCall(fd.number, bytes);
  return bytes.readUInt32LE(0);
}

/** The next names of an open directory, without `.` and `..`; empty at its end. */
export function readNames(directory: Fd, into: Buffer): Buffer[] {
  const HEADER_BYTES = 19;
  for (;;) {
    const length = getdentsCall(SYS_GETDENTS64, directory.number, into, into.length);
    if (length === 0) return [];
    const names: Buffer[] = [];
    for (let at = 0; at < length; at += into.readUInt16LE(at + 16)) {
      const end = into.indexOf(0, at + HEADER_BYTES);
      const name = Buffer.from(into.subarray(at + HEADER_BYTES, end));
      if (!(name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e)))) names.push(name);
    }
    if (names.length > 0) return names;
  }
}

/** Where data begins at or after `offset`; undefined when only a hole follows. */
export function seekData(fd: Fd, offset: number): number | undefined {
  const SEEK_DATA = 3;
  try {
    return lseekCall(fd.number, offset, SEEK_DATA);
  } catch (error) {
    if (error instanceof SystemCallError && error.code === "ENXIO") return undefined;
    throw error;
  }
}

/** Where the hole after the data at `offset` begins; the end of the file counts as one. */
export function seekHole(fd: Fd, offset: number): number {
  const SEEK_HOLE = 4;
  return lseekCall(fd.number, offset, SEEK_HOLE);
}

/** Copies inside the kernel; returns how much it did. */
export function copyRange(from: Fd, to: Fd, offset: number, length: number): number {
  const [source, target] = [Buffer.alloc(8), Buffer.alloc(8)];
  source.writeBigInt64LE(BigInt(offset));
  target.writeBigInt64LE(BigInt(offset));
  return copyFileRangeCall(from.number, source, to.number, target, length, 0);
}

/** Watches what `fd` refers to; returns the watch's number. */
export function addWatch(inotifyFd: number, fd: Fd, mask: number): number {
  return inotifyAddWatchCall(inotifyFd, cString(ownPath(fd)), mask);
}
