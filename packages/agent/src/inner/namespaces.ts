/**
 * Steps this thread into the namespaces of an inner environment and out again. Synchronous: the
 * event loop never turns while the thread is away. A thread that cannot come back ends the agent,
 * because everything it did next would happen in the wrong place.
 */
import {
  CLONE_FS,
  CLONE_NAMESPACES,
  CLONE_NEWNET,
  pidfdOpen,
  resetThreadIds,
  setns,
  setThreadGroups,
  setThreadIds,
  unshare,
} from "../sys/libc.ts";
import type { User } from "../spawn/user.ts";

let homePidfd: number | undefined;

/** Runs `work` inside the namespaces of the process behind `pidfd`, as root. */
export function inside<T>(pidfd: number, work: () => T): T {
  homePidfd ??= pidfdOpen(1);
  // Threads started since the last time share the file system context again.
  unshare(CLONE_FS);
  setns(pidfd, CLONE_NAMESPACES);
  try {
    return work();
  } finally {
    comeHome(homePidfd);
  }
}

/** Runs `work` inside the network namespace of the process behind `pidfd`; files and all else stay the agent's. */
export function insideNetwork<T>(pidfd: number, work: () => T): T {
  homePidfd ??= pidfdOpen(1);
  setns(pidfd, CLONE_NEWNET);
  try {
    return work();
  } finally {
    comeHome(homePidfd, CLONE_NEWNET);
  }
}

/** Runs `work` in new namespaces of every kind but cgroup; the first child of `work` becomes their init. */
export function insideNew<T>(work: () => T): T {
  homePidfd ??= pidfdOpen(1);
  const CLONE_NEWCGROUP = 0x02000000;
  unshare(CLONE_NAMESPACES & ~CLONE_NEWCGROUP);
  try {
    return work();
  } finally {
    comeHome(homePidfd);
  }
}

/** Runs `work` with the credentials of this thread those of `user`. */
export function asUser<T>(user: User, work: () => T): T {
  setThreadGroups(user.groups);
  setThreadIds(user.uid, user.gid);
  try {
    return work();
  } finally {
    resetThreadIds();
    setThreadGroups([]);
  }
}

function comeHome(pidfd: number, namespaces = CLONE_NAMESPACES): void {
  try {
    setns(pidfd, namespaces);
  } catch (error) {
    process.stderr.write(`sprited: cannot leave the inner environment: ${String(error)}\n`);
    process.abort();
  }
}
