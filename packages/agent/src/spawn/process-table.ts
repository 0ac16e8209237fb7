/**
 * Starts child processes by `posix_spawn` (no copy of this process's page tables, unlike fork)
 * and collects them on SIGCHLD.
 *
 * Invariants: a child owns nothing of ours but its three standard descriptors; signals are at
 * their defaults; it leads a session of its own; each end is reported exactly once.
 */
import fs from "node:fs";
import koffi from "koffi";
import { type ChildEnd, reapChild, SystemCallError } from "../sys/libc.ts";

const POSIX_SPAWN = { SETSIGDEF: 0x04, SETSIGMASK: 0x08, SETSID: 0x80, SETCGROUP: 0x100 } as const;
/** Sizes of the C library's opaque structures with room to spare, bytes. */
const ATTRIBUTES_BYTES = 512;
const FILE_ACTIONS_BYTES = 256;
const SIGSET_BYTES = 128;
const SIGKILL = 9;
const KILL_ROUNDS_MAX = 20;

const library = koffi.load(null);
const attributesInit = library.func("posix_spawnattr_init", "int", ["void *"]);
const attributesFlags = library.func("posix_spawnattr_setflags", "int", ["void *", "short"]);
const attributesDefaults = library.func("posix_spawnattr_setsigdefault", "int", ["void *", "void *"]);
const attributesMask = library.func("posix_spawnattr_setsigmask", "int", ["void *", "void *"]);
const actionsInit = library.func("posix_spawn_file_actions_init", "int", ["void *"]);
const actionsDestroy = library.func("posix_spawn_file_actions_destroy", "int", ["void *"]);
const actionsDuplicate = library.func("posix_spawn_file_actions_adddup2", "int", ["void *", "int", "int"]);
const posixSpawn = library.func("posix_spawn", "int", ["void *", "str", "void *", "void *", "const char **", "const char **"]);

export interface SpawnRequest {
  /** Path of the program, as the calling thread sees it. */
  path: string;
  argv: readonly string[];
  /** `K=V` entries. */
  env: readonly string[];
  /** Descriptors that become 0, 1 and 2; above 2 here. */
  stdio: readonly [number, number, number];
  /** Descriptor of the cgroup directory the child is born in; the parent's when left out. */
  cgroupFd?: number | undefined;
}

export interface Child {
  /** As this process sees it. */
  readonly pid: number;
  readonly ended: Promise<ChildEnd>;
}

/** All children of this process that `spawn` started. */
export class ProcessTable {
  #running = new Map<number, (end: ChildEnd) => void>();
  #attributes = new Map<number | undefined, Buffer>();
  #reap = (): void => this.#collect();

  constructor() {
    // oxlint-disable-next-line house/no-process-on -- the only place that collects children
    process.on("SIGCHLD", this.#reap);
  }

  /** Starts a program. Throws `SystemCallError`; `E2BIG` when arguments and environment are too long. */
  spawn(request: SpawnRequest): Child {
    const attributes = this.#attributesFor(request.cgroupFd);
    const actions = Buffer.alloc(FILE_ACTIONS_BYTES);
    const pidBytes = Buffer.alloc(4);
    actionsInit(actions);
    try {
      request.stdio.forEach((fd, target) => actionsDuplicate(actions, fd, target));
      const errno = Number(posixSpawn(pidBytes, request.path, actions, attributes, [...request.argv, null], [...request.env, null]));
      if (errno !== 0) throw new SystemCallError("posix_spawn", errno);
    } finally {
      actionsDestroy(actions);
    }
    const pid = pidBytes.readInt32LE(0);
    const ended = new Promise<ChildEnd>((resolve) => {
      this.#running.set(pid, resolve);
    });
    return { pid, ended };
  }

  /** Sends a signal by number. A process that has ended is fine. */
  kill(pid: number, signal: number): void {
    if (pid > 0 && !this.#running.has(pid)) return;
    this.#killAny(pid, signal);
  }

  #killAny(pid: number, signal = SIGKILL): void {
    try {
      process.kill(pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }

  /**
   * Kills every process whose session `pid` leads, and that one. Looks again until none is left,
   * because a process may have been born while the list was read.
   */
  killSession(pid: number): void {
    this.kill(pid, SIGKILL);
    for (let round = 0; round < KILL_ROUNDS_MAX; round += 1) {
      const members = sessionMembers(pid);
      if (members.length === 0) return;
      for (const member of members) this.#killAny(member);
    }
  }

  /** Sends a signal to everything in a child's session. */
  signalSession(pid: number, signal: number): void {
    for (const member of [pid, ...sessionMembers(pid)]) this.kill(member, signal);
  }

  close(): void {
    process.off("SIGCHLD", this.#reap);
  }

  #collect(): void {
    for (const [pid, resolve] of this.#running) {
      const end = reapOrLost(pid);
      if (!end) continue;
      this.#running.delete(pid);
      resolve(end);
    }
  }

  #attributesFor(cgroupFd: number | undefined): Buffer {
    const known = this.#attributes.get(cgroupFd);
    if (known) return known;
    const attributes = Buffer.alloc(ATTRIBUTES_BYTES);
    attributesInit(attributes);
    attributesDefaults(attributes, Buffer.alloc(SIGSET_BYTES, 0xff));
    attributesMask(attributes, Buffer.alloc(SIGSET_BYTES));
    let flags = POSIX_SPAWN.SETSIGDEF | POSIX_SPAWN.SETSIGMASK | POSIX_SPAWN.SETSID;
    if (cgroupFd !== undefined) {
      // Since glibc 2.39, which the system image has; looked up late so that older hosts can run the rest.
      const attributesCgroup = library.func("posix_spawnattr_setcgroup_np", "int", ["void *", "int"]);
      attributesCgroup(attributes, cgroupFd);
      flags |= POSIX_SPAWN.SETCGROUP;
    }
    attributesFlags(attributes, flags);
    this.#attributes.set(cgroupFd, attributes);
    return attributes;
  }
}

/** Living processes of the session that `leader` began. */
function sessionMembers(leader: number): number[] {
  const members: number[] = [];
  for (const name of fs.readdirSync("/proc")) {
    if (!/^[0-9]+$/.test(name)) continue;
    const stat = readStat(name);
    // After the name in brackets: state, parent, process group, session.
    const [state, , , session] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (Number(session) === leader && state !== "Z" && state !== "X") members.push(Number(name));
  }
  return members;
}

function readStat(pid: string): string {
  try {
    return fs.readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    // Gone since the directory was read.
    return "";
  }
}

function reapOrLost(pid: number): ChildEnd | undefined {
  try {
    return reapChild(pid);
  } catch (error) {
    if (error instanceof SystemCallError && error.code === "ECHILD") return { code: null, signal: 9 };
    throw error;
  }
}
