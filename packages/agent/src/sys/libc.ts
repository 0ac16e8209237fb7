/**
 * The system calls that Node does not offer, through the C library of this process.
 *
 * Invariants: every call is synchronous and runs on the calling (main) thread; what changes the
 * state of a thread (namespaces, credentials) is given back before the event loop turns; a failed
 * call throws `SystemCallError` with its errno.
 */
import koffi from "koffi";

/** A failed system call: its name, errno and the errno's name. */
export class SystemCallError extends Error {
  override readonly name = "SystemCallError";
  readonly call: string;
  readonly errno: number;
  /** `ENOENT`, …; the number as text when it has no name. */
  readonly code: string;
  constructor(call: string, errno: number, detail?: string) {
    const code = ERRNO_NAMES.get(errno) ?? String(errno);
    super(`${call}${detail === undefined ? "" : ` ${detail}`}: ${code}`);
    this.call = call;
    this.errno = errno;
    this.code = code;
  }
}

const ERRNO_NAMES = new Map<number, string>(Object.entries(koffi.os.errno).map(([name, value]) => [value as number, name]));

/** System call numbers of x86-64, for calls without a wrapper in the C library. */
const SYS = { setgroups: 116, setresuid: 117, setresgid: 119, setfsuid: 122, pivotRoot: 155, openat2: 437 } as const;

const library = koffi.load(null);

/** Binds a function whose result is negative on failure; the bound one throws instead. */
function bind(symbol: string, parameters: readonly string[], name = symbol): (...values: unknown[]) => number {
  const call = library.func(symbol, "long", [...parameters]);
  return (...values) => {
    const result = Number(call(...values));
    // The C prototypes return int: a negative one may arrive as its unsigned twin.
    if ((result | 0) !== -1) return result;
    throw new SystemCallError(name, koffi.errno());
  };
}

const unshareCall = bind("unshare", ["int"]);
const setnsCall = bind("setns", ["int", "int"]);
const mountCall = bind("mount", ["str", "str", "str", "ulong", "str"]);
const umountCall = bind("umount2", ["str", "int"]);
const openTreeCall = bind("open_tree", ["int", "str", "uint"]);
const moveMountCall = bind("move_mount", ["int", "str", "int", "str", "uint"]);
const pivotRootCall = bind("syscall", ["long", "str", "str"], "pivot_root");
const openat2Call = bind("syscall", ["long", "int", "str", "void *", "size_t"], "openat2");
const pidfdOpenCall = bind("pidfd_open", ["int", "uint"]);
const setgroupsCall = bind("syscall", ["long", "size_t", "void *"], "setgroups");
const setidsCall = bind("syscall", ["long", "long", "long", "long"], "setresuid/setresgid");
const setfsuidCall = library.func("syscall", "long", ["long", "long"]);
const pipe2Call = bind("pipe2", ["void *", "int"]);
const ioctlCall = bind("ioctl", ["int", "ulong", "void *"]);
const ioctlValueCall = bind("ioctl", ["int", "ulong", "long"]);
const fcntlCall = bind("fcntl", ["int", "int", "long"]);
const wait4Call = bind("wait4", ["int", "void *", "int", "void *"]);
const pollCall = bind("poll", ["void *", "ulong", "int"]);
const clockSettimeCall = bind("clock_settime", ["int", "void *"]);
const sethostnameCall = bind("sethostname", ["str", "size_t"]);
const prctlCall = bind("prctl", ["int", "ulong", "ulong", "ulong", "ulong"]);
const syncfsCall = bind("syncfs", ["int"]);
const socketCall = bind("socket", ["int", "int", "int"]);
const sendCall = bind("send", ["int", "void *", "size_t", "int"]);
const recvCall = bind("recv", ["int", "void *", "size_t", "int"]);
const fchdirCall = bind("fchdir", ["int"]);

export const CLONE_FS = 0x200;
/** Every namespace of an inner environment. */
export const CLONE_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000;
/** Flags of `mount`. */
export const MS = { NODEV: 4, NOATIME: 1024 } as const;
export const CLONE_NEWNET = 0x40000000;
export const MNT_DETACH = 2;
const O_CLOEXEC = 0o2000000;
const AT_FDCWD = -100;

/** Gives the calling thread its own copy of what `flags` name. */
export function unshare(flags: number): void {
  unshareCall(flags);
}

/** Puts the calling thread into the namespaces `flags` of the process behind a pidfd. */
export function setns(pidfd: number, flags: number): void {
  setnsCall(pidfd, flags);
}

export interface MountRequest {
  source: string;
  target: string;
  type: string;
  /** Of `MS`. */
  flags: number;
  /** Options of the file system. */
  data: string;
}

export function mount(request: MountRequest): void {
  const { source, target, type, flags, data } = request;
  try {
    mountCall(source, target, type, flags, data);
  } catch (error) {
    throw error instanceof SystemCallError ? new SystemCallError("mount", error.errno, `${source} on ${target}`) : error;
  }
}

export function umount(target: string, flags = 0): void {
  umountCall(target, flags);
}

/** Working directory of the calling thread alone, once it has unshared `CLONE_FS`. */
export function changeDirectory(fd: number): void {
  fchdirCall(fd);
}

/** A detached copy of the mount at `path` and everything mounted below it, as a file descriptor; goes away when that is closed. */
export function cloneMount(path: string): number {
  const OPEN_TREE_CLONE = 1;
  const AT_RECURSIVE = 0x8000;
  return openTreeCall(AT_FDCWD, path, OPEN_TREE_CLONE | AT_RECURSIVE | O_CLOEXEC);
}

/** Attaches a detached mount at `path`. */
export function attachMount(fd: number, path: string): void {
  const MOVE_MOUNT_F_EMPTY_PATH = 4;
  moveMountCall(fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH);
}

export function pivotRoot(newRoot: string, putOld: string): void {
  pivotRootCall(SYS.pivotRoot, newRoot, putOld);
}

/** What `openInRoot` refuses to follow. */
const RESOLVE_NO_MAGICLINKS = 0x02;
const RESOLVE_NO_XDEV = 0x01;
const RESOLVE_IN_ROOT = 0x10;

/**
 * Opens `path` as if the directory `rootFd` were `/`: no link, `..` or mount leads out of it.
 * Close-on-exec. `flags` and `mode` as in open(2).
 */
export function openInRoot(rootFd: number, path: string, flags: number, mode = 0): number {
  const how = Buffer.alloc(24);
  how.writeBigUInt64LE(BigInt(flags | O_CLOEXEC), 0);
  how.writeBigUInt64LE(BigInt(mode), 8);
  how.writeBigUInt64LE(BigInt(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV), 16);
  return openat2Call(SYS.openat2, rootFd, path, how, how.length);
}

export function pidfdOpen(pid: number): number {
  return pidfdOpenCall(pid, 0);
}

/** Supplementary groups of the calling thread alone. */
export function setThreadGroups(groups: readonly number[]): void {
  const list = Buffer.alloc(4 * Math.max(1, groups.length));
  groups.forEach((group, index) => list.writeUInt32LE(group, index * 4));
  setgroupsCall(SYS.setgroups, groups.length, list);
}

/**
 * Real and effective ids of the calling thread alone; the saved ones stay root so that it can come
 * back. Files are still opened as root: a child can be born in a cgroup that its user may not
 * write. A program that is executed has none of that left.
 */
export function setThreadIds(uid: number, gid: number): void {
  setidsCall(SYS.setresgid, gid, gid, 0);
  setidsCall(SYS.setresuid, uid, uid, 0);
  setfsuidCall(SYS.setfsuid, 0);
}

/** Undoes `setThreadIds`. */
export function resetThreadIds(): void {
  setidsCall(SYS.setresuid, 0, 0, 0);
  setidsCall(SYS.setresgid, 0, 0, 0);
}

/** A pipe, both ends close-on-exec and blocking. */
export function pipe(): { readFd: number; writeFd: number } {
  const ends = Buffer.alloc(8);
  pipe2Call(ends, O_CLOEXEC);
  return { readFd: ends.readInt32LE(0), writeFd: ends.readInt32LE(4) };
}

/** ioctl with a pointer to `data`, which is read and written in place. */
export function ioctl(fd: number, request: number, data: Buffer | null): number {
  return ioctlCall(fd, request, data);
}

/** ioctl with a plain number. */
export function ioctlValue(fd: number, request: number, value: number): number {
  return ioctlValueCall(fd, request, value);
}

/** An unconnected TCP socket of the calling thread's network namespace, close-on-exec and not blocking. */
export function tcpSocket(family: "IPv4" | "IPv6"): number {
  const AF = { IPv4: 2, IPv6: 10 } as const;
  const SOCK_STREAM = 1;
  const SOCK_NONBLOCK = 0o4000;
  return socketCall(AF[family], SOCK_STREAM | SOCK_NONBLOCK | O_CLOEXEC, 0);
}

/** A socket on which the kernel tells of the sockets of the calling thread's network namespace, close-on-exec. */
export function diagnosisSocket(): number {
  const AF_NETLINK = 16;
  const SOCK_RAW = 3;
  const NETLINK_SOCK_DIAG = 4;
  return socketCall(AF_NETLINK, SOCK_RAW | O_CLOEXEC, NETLINK_SOCK_DIAG);
}

const MSG_DONTWAIT = 0x40;

/** Sends a datagram. Throws `EAGAIN` rather than wait. */
export function sendNow(fd: number, bytes: Buffer): void {
  sendCall(fd, bytes, bytes.length, MSG_DONTWAIT);
}

/** The datagram that is there, in `into`. Throws `EAGAIN` when there is none. */
export function receiveNow(fd: number, into: Buffer): Buffer {
  return into.subarray(0, recvCall(fd, into, into.length, MSG_DONTWAIT));
}

/** Another descriptor of what `fd` has open, close-on-exec. */
export function duplicateFd(fd: number): number {
  const F_DUPFD_CLOEXEC = 1030;
  return fcntlCall(fd, F_DUPFD_CLOEXEC, 3);
}

export function fcntl(fd: number, command: number, value: number): number {
  return fcntlCall(fd, command, value);
}

/** How a child ended; undefined while it runs. */
export type ChildEnd = { code: number; signal: null } | { code: null; signal: number };

/** Collects the child `pid` if it has ended. Throws `ECHILD` when it is not ours. */
export function reapChild(pid: number): ChildEnd | undefined {
  const WNOHANG = 1;
  const status = Buffer.alloc(4);
  if (wait4Call(pid, status, WNOHANG, null) === 0) return undefined;
  const value = status.readInt32LE(0);
  const signal = value & 0x7f;
  return signal === 0 ? { code: (value >> 8) & 0xff, signal: null } : { code: null, signal };
}

/** Whether a read of `fd` would not block. */
export function isReadable(fd: number): boolean {
  const POLLIN = 1;
  const entry = Buffer.alloc(8);
  entry.writeInt32LE(fd, 0);
  entry.writeInt16LE(POLLIN, 4);
  return pollCall(entry, 1, 0) > 0 && (entry.readInt16LE(6) & POLLIN) !== 0;
}

/** Sets the wall clock, milliseconds since the epoch. */
export function setWallClock(timeMs: number): void {
  const CLOCK_REALTIME = 0;
  const timespec = Buffer.alloc(16);
  timespec.writeBigInt64LE(BigInt(Math.floor(timeMs / 1000)), 0);
  timespec.writeBigInt64LE(BigInt(Math.floor((timeMs % 1000) * 1e6)), 8);
  clockSettimeCall(CLOCK_REALTIME, timespec);
}

/** Host name of the calling thread's UTS namespace. */
export function setHostname(name: string): void {
  sethostnameCall(name, Buffer.byteLength(name));
}

/** Takes a capability out of the bounding set of the calling thread and all its future children. */
export function dropBoundingCapability(capability: number): void {
  const PR_CAPBSET_DROP = 24;
  prctlCall(PR_CAPBSET_DROP, capability, 0, 0, 0);
}

/** Writes everything of the file system behind `fd` to its device. */
export function syncFileSystem(fd: number): void {
  syncfsCall(fd);
}

/** Lets writes to the frozen file system behind `fd` go on. Throws `EINVAL` when it is not frozen. */
export function thawFileSystem(fd: number): void {
  const FITHAW = 0xc0045878;
  ioctlValueCall(fd, FITHAW, 0);
}
