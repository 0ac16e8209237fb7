/** What a file is, as the kernel tells it, and as the host is told. Pure. */
import type { FileEntry } from "@sprited/protocol/guest";
import { type Fd, type Name, readLink, statBytes } from "./syscalls.ts";

export interface Facts {
  type: FileEntry["type"];
  /** Permission bits with setuid, setgid and sticky. */
  mode: number;
  size: number;
  uid: number;
  gid: number;
  allocated: number;
  mtimeMs: number;
  /** Device and inode: the same file. */
  identity: string;
  /** The mount it was reached by. */
  mount: bigint;
  /** Changes whenever the file does. */
  etag: string;
}

const TYPES: Readonly<Record<number, Facts["type"]>> = { 1: "fifo", 2: "device", 4: "directory", 6: "device", 8: "file", 10: "symlink" };

/** Facts of `name` in a directory; with an empty name of `fd` itself. Never follows a symlink. Throws `SystemCallError`. */
export function factsOf(fd: Fd, name: Name = ""): Facts {
  const bytes = statBytes(fd.number, name);
  const mode = bytes.readUInt16LE(28);
  const size = Number(bytes.readBigUInt64LE(40));
  const inode = bytes.readBigUInt64LE(32);
  const time = (at: number): string => `${bytes.readBigInt64LE(at).toString(36)}.${bytes.readUInt32LE(at + 8).toString(36)}`;
  return {
    type: TYPES[mode >> 12] ?? "socket",
    mode: mode & 0o7777,
    size,
    uid: bytes.readUInt32LE(20),
    gid: bytes.readUInt32LE(24),
    allocated: Number(bytes.readBigUInt64LE(48)) * 512,
    mtimeMs: Number(bytes.readBigInt64LE(112)) * 1000 + Math.floor(bytes.readUInt32LE(120) / 1e6),
    identity: `${bytes.readUInt32LE(136)}:${bytes.readUInt32LE(140)}:${inode}`,
    mount: bytes.readBigUInt64LE(144),
    etag: `${inode.toString(36)}-${size.toString(36)}-${time(112)}-${time(96)}`,
  };
}

/** An entry as it goes to the host. `link`: where a symlink's target is read. */
export function entryOf(facts: Facts, path: string, link?: { directory: Fd; name: Name }): FileEntry {
  return {
    path,
    type: facts.type,
    size: facts.size,
    mode: facts.mode,
    mtime_ms: facts.mtimeMs,
    uid: facts.uid,
    gid: facts.gid,
    allocated: facts.allocated,
    etag: facts.etag,
    target: facts.type === "symlink" && link ? readLink(link.directory, link.name).toString("utf8") : null,
  };
}
