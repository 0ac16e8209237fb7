/**
 * One inner environment: namespaces with an init of their own, made before the disk is known
 * (`prepareInner`), then given the user's root (`enter`).
 *
 * Invariants: nothing of the VM's root is reachable inside once entered; the end of its init ends
 * every process in it and frees its namespaces and mounts.
 */
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { createInterface } from "node:readline";
import { ignore, waitFor, withDeadline } from "@sprited/base";
import type { ProcessTable } from "../spawn/process-table.ts";
import { attachMount, changeDirectory, cloneMount, MNT_DETACH, pidfdOpen, pipe, pivotRoot, setHostname, umount } from "../sys/libc.ts";
import { createCgroup, type InnerCgroup } from "./cgroup.ts";
import { DISK_MOUNT } from "./disk.ts";
import { type Identity, writeIdentity } from "./identity.ts";
import { inside, insideNew } from "./namespaces.ts";
import { runHelper } from "./system-program.ts";
import { SessionCgroups } from "./session-cgroups.ts";

/** What `inner-init` becomes. */
const INIT = "/usr/bin/catatonit";
const HELPERS = "/usr/lib/sprited";
const TOOLBOX = "/opt/sprite";
/** Where the user finds it. */
const TOOLBOX_PLACE = "/.sprite";
/** What the stage holds for the user's root. */
const STAGED = ["proc", "sys", "dev", "run"] as const;
const PREPARE_TIMEOUT_MS = 60_000;

export interface Inner {
  /** Descriptor of its init. */
  readonly pidfd: number;
  readonly pid: number;
  /** Where commands are born. */
  readonly sessionCgroups: SessionCgroups;
  readonly cgroup: InnerCgroup;
  /** Resolves when its init has ended. */
  readonly ended: Promise<void>;
  /** Mounts of the stage, detached, in the order of `STAGED`. */
  readonly staged: readonly number[];
}

/** Makes namespaces, cgroup, stage and network of environment number `index`. */
export async function prepareInner(processes: ProcessTable, index: number): Promise<Inner> {
  const cgroup = createCgroup(index);
  const cgroupFd = openDirectory(cgroup.directory);
  const nothing = fs.openSync("/dev/null", "r+");
  const said = pipe();
  let child;
  try {
    child = insideNew(() =>
      processes.spawn({
        path: "/usr/bin/unshare",
        argv: ["unshare", "--cgroup", path.join(HELPERS, "inner-init"), cgroup.directory],
        env: [],
        stdio: [nothing, said.writeFd, 2],
        cgroupFd,
      }),
    );
  } finally {
    fs.closeSync(cgroupFd);
    fs.closeSync(nothing);
    fs.closeSync(said.writeFd);
  }
  const { pid } = child;
  const pidfd = pidfdOpen(pid);
  await withDeadline("preparing the inner environment", { timeoutMs: PREPARE_TIMEOUT_MS }, async () => {
    await Promise.all([readyLine(said.readFd), runHelper(processes, path.join(HELPERS, "inner-net"), [String(pid)])]);
  });
  // Entering moves the root away: the init that stays must have been found before.
  await waitFor(
    "the inner environment's init",
    { timeoutMs: PREPARE_TIMEOUT_MS, everyMs: 2 },
    () => fs.readlinkSync(`/proc/${pid}/exe`) === INIT,
  );
  const staged = inside(pidfd, () => STAGED.map((name) => cloneMount(`/mnt/${name}`)));
  const sessionCgroups = new SessionCgroups(path.join(cgroup.directory, "sessions"), cgroup.pidsPerSession);
  return { pid, pidfd, sessionCgroups, cgroup, staged, ended: child.ended.then(ignore("only that it ended matters")) };
}

/** Puts the mounted disk in place of the VM's root and gives it its identity. */
export function enterInner(inner: Inner, identity: Identity): void {
  const disk = cloneMount(DISK_MOUNT);
  try {
    inside(inner.pidfd, () => {
      const oldRoot = openDirectory("/");
      try {
        attachMount(disk, "/mnt");
        pivotRoot("/mnt", "/mnt");
        changeDirectory(oldRoot);
        umount(".", MNT_DETACH);
      } finally {
        fs.closeSync(oldRoot);
      }
      process.chdir("/");
      STAGED.forEach((name, index) => attachAt(inner.staged[index] as number, `/${name}`));
      if (fs.lstatSync("/tmp", { throwIfNoEntry: false }) === undefined) {
        fs.mkdirSync("/tmp");
        fs.chmodSync("/tmp", 0o1777);
      }
      setHostname(identity.hostname);
      writeIdentity(identity);
    });
  } finally {
    fs.closeSync(disk);
  }
  attachToolbox(inner);
}

/** Puts the tool box to its place, over whatever is there now. */
export function attachToolbox(inner: Inner): void {
  const toolbox = cloneMount(TOOLBOX);
  try {
    inside(inner.pidfd, () => {
      if (fs.lstatSync(TOOLBOX_PLACE, { throwIfNoEntry: false })?.isDirectory() === false) fs.rmSync(TOOLBOX_PLACE);
      attachAt(toolbox, TOOLBOX_PLACE);
    });
  } finally {
    fs.closeSync(toolbox);
  }
}

function attachAt(mountFd: number, place: string): void {
  if (fs.statSync(place, { throwIfNoEntry: false })?.isDirectory() !== true) {
    fs.rmSync(place, { force: true });
    fs.mkdirSync(place, { recursive: true });
  }
  attachMount(mountFd, place);
}

/** Gives the descriptors of an ended environment back and removes its cgroup. */
export function releaseInner(inner: Inner): void {
  inner.sessionCgroups.close();
  for (const fd of [inner.pidfd, ...inner.staged]) fs.closeSync(fd);
  inner.cgroup.remove();
}

function openDirectory(directory: string): number {
  return fs.openSync(directory, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
}

async function readyLine(fd: number): Promise<void> {
  const output = new net.Socket({ fd, readable: true, writable: false });
  try {
    for await (const line of createInterface({ input: output })) if (line === "ready") return;
    throw new Error("the inner environment ended before it was ready");
  } finally {
    output.destroy();
  }
}
