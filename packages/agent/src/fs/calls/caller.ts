/**
 * Whose permissions this thread has. Only for a thread that does nothing but file work: it keeps
 * the credentials of the last call until the next one.
 *
 * Invariant: real and effective ids are the caller's, so that no capability of the agent is left;
 * the saved ids stay root, which is the way back.
 */
import koffi from "koffi";
import { SystemCallError } from "../../sys/libc.ts";

/** Who a call is for. */
export interface Caller {
  uid: number;
  gid: number;
  groups: readonly number[];
}

export const ROOT: Caller = { uid: 0, gid: 0, groups: [] };

const SYS = { setgroups: 116, setresuid: 117, setresgid: 119 } as const;
const syscallIds = koffi.load(null).func("syscall", "long", ["long", "long", "long", "long"]);
const syscallList = koffi.load(null).func("syscall", "long", ["long", "size_t", "void *"]);
/** An agent of an ordinary user has no other permissions than its own. */
const canSwitch = process.getuid?.() === 0;
let current = ROOT;

/** Gives this thread the permissions of `caller`. */
export function become(caller: Caller): void {
  if (!canSwitch || same(current, caller)) return;
  if (current.uid !== 0 || current.gid !== 0) setIds(0, 0);
  const list = Buffer.alloc(4 * Math.max(1, caller.groups.length));
  caller.groups.forEach((group, index) => list.writeUInt32LE(group, index * 4));
  check("setgroups", syscallList(SYS.setgroups, caller.groups.length, list));
  setIds(caller.uid, caller.gid);
  current = caller;
}

/** Runs `work` as root; for what the caller was found to be allowed to. */
export function elevated<T>(work: () => T): T {
  const caller = current;
  become(ROOT);
  try {
    return work();
  } finally {
    become(caller);
  }
}

/** Whether this thread now has root's permissions or those of `uid`. */
export function isOwner(uid: number): boolean {
  return current.uid === 0 || current.uid === uid || !canSwitch;
}

function same(one: Caller, other: Caller): boolean {
  return one.uid === other.uid && one.gid === other.gid && one.groups.join() === other.groups.join();
}

function setIds(uid: number, gid: number): void {
  // Towards root the user comes first: it gives the right to the rest.
  if (uid === 0) check("setresuid", syscallIds(SYS.setresuid, 0, 0, 0));
  check("setresgid", syscallIds(SYS.setresgid, gid, gid, 0));
  if (uid !== 0) check("setresuid", syscallIds(SYS.setresuid, uid, uid, 0));
}

function check(call: string, result: unknown): void {
  if (Number(result) === 0) return;
  // In between two callers nothing may be done as either.
  process.stderr.write(`sprited: ${call} failed in the file worker: ${new SystemCallError(call, koffi.errno()).code}\n`);
  process.abort();
}
