/**
 * A control group per VM: version 2 where the host offers its controllers, else version 1 below
 * the daemon's own groups, else none. Planning is pure; making and removing is thin.
 *
 * Version 2 groups lie below one group at the root of the hierarchy, because a group that holds
 * processes (the daemon's) cannot hand controllers to its children, and because a service
 * manager ends everything below a service's own group, which VMs must survive.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, type Logger, waitFor } from "@sprited/base";
import type { VmShape } from "../vmm.ts";
import { findText } from "./record.ts";

/** Host memory a VMM may use beside its guest's RAM and its cache of translated code, MiB: program, queues, page cache of its disks. */
const MEMORY_OVERHEAD_MIB = 256;
/** Processes and threads of one VMM: vCPUs, I/O workers. */
const PIDS_BASE = 128;
/** Longest wait for a group to become empty after its process ended, ms. */
const REMOVE_TIMEOUT_MS = 5_000;

type Controller = "memory" | "pids" | "cpu";
const CONTROLLERS: readonly Controller[] = ["memory", "pids", "cpu"];

/** What the host offers. `directories` of version 1: where groups may be made, per controller. */
export type CgroupHierarchy =
  | { kind: "v2"; mount: string }
  | { kind: "v1"; directories: Partial<Record<Controller, string>> }
  | { kind: "none"; reason: string };

export interface CgroupLimits {
  memoryBytes: number;
  pids: number;
  /** 1 to 10000; 100 is a group's usual share. */
  cpuWeight: number;
}

/** Groups of one VM and the limits to write, in order. */
export interface CgroupPlan {
  groups: { path: string; limits: { file: string; value: string }[] }[];
}

export function vmLimits(shape: VmShape, extraMib: number): CgroupLimits {
  return {
    memoryBytes: (shape.memoryMib + MEMORY_OVERHEAD_MIB + extraMib) * 1024 * 1024,
    pids: PIDS_BASE + shape.cpus * 4,
    cpuWeight: Math.min(10_000, 100 * shape.cpus),
  };
}

/** Finds the hierarchy in the texts of /proc/self/mountinfo and /proc/self/cgroup. `controllers` is cgroup.controllers of the version 2 mount. Pure. */
export function findHierarchy(input: { mountinfo: string; selfCgroup: string; controllers: string }): CgroupHierarchy {
  const mounts = parseMounts(input.mountinfo);
  const v2 = mounts.find((mount) => mount.type === "cgroup2");
  const offered = input.controllers.split(/\s+/);
  if (v2 && CONTROLLERS.every((controller) => offered.includes(controller))) return { kind: "v2", mount: v2.mountPoint };
  const directories: Partial<Record<Controller, string>> = {};
  for (const controller of CONTROLLERS) {
    const mount = mounts.find((candidate) => candidate.type === "cgroup" && candidate.options.includes(controller));
    const own = ownGroup(input.selfCgroup, controller);
    if (mount && own !== undefined) directories[controller] = path.join(mount.mountPoint, relativeGroup(mount.root, own));
  }
  if (Object.keys(directories).length > 0) return { kind: "v1", directories };
  return { kind: "none", reason: "this host offers no control groups" };
}

/** The groups of one VM; `name` must be unique on the host. Pure. */
export function planCgroup(hierarchy: CgroupHierarchy, name: string, limits: CgroupLimits): CgroupPlan {
  if (hierarchy.kind === "none") return { groups: [] };
  if (hierarchy.kind === "v2") {
    const values = [
      { file: "memory.max", value: String(limits.memoryBytes) },
      { file: "memory.oom.group", value: "1" },
      { file: "pids.max", value: String(limits.pids) },
      { file: "cpu.weight", value: String(limits.cpuWeight) },
    ];
    return { groups: [{ path: path.join(v2Parent(hierarchy.mount), name), limits: values }] };
  }
  const values: Record<Controller, { file: string; value: string }> = {
    memory: { file: "memory.limit_in_bytes", value: String(limits.memoryBytes) },
    pids: { file: "pids.max", value: String(limits.pids) },
    // Version 1 counts shares of 1024 where version 2 has a weight of 100.
    cpu: { file: "cpu.shares", value: String(Math.max(2, Math.round((limits.cpuWeight * 1024) / 100))) },
  };
  const paths = new Map<string, CgroupPlan["groups"][number]>();
  for (const controller of CONTROLLERS) {
    const directory = hierarchy.directories[controller];
    if (directory === undefined) continue;
    const group = paths.get(directory) ?? { path: path.join(directory, `sprited-${name}`), limits: [] };
    group.limits.push(values[controller]);
    paths.set(directory, group);
  }
  return { groups: [...paths.values()] };
}

function v2Parent(mount: string): string {
  return path.join(mount, "sprited");
}

/** What this host lets this process use. Never throws: without groups VMs run unlimited, and that is said once. */
export async function openCgroups(logger: Logger): Promise<CgroupHierarchy> {
  try {
    const mountinfo = (await findText("/proc/self/mountinfo")) ?? "";
    const mount = parseMounts(mountinfo).find((candidate) => candidate.type === "cgroup2")?.mountPoint;
    const controllers = mount === undefined ? "" : ((await findText(path.join(mount, "cgroup.controllers"))) ?? "");
    const hierarchy = findHierarchy({ mountinfo, selfCgroup: (await findText("/proc/self/cgroup")) ?? "", controllers });
    if (hierarchy.kind === "v2") await openV2(hierarchy.mount);
    if (hierarchy.kind === "v1") await tryV1(hierarchy.directories);
    if (hierarchy.kind === "none") sayNone(logger, hierarchy.reason);
    return hierarchy;
  } catch (error) {
    const reason = "this process may not make control groups";
    sayNone(logger, reason, error);
    return { kind: "none", reason };
  }
}

function sayNone(logger: Logger, reason: string, err?: unknown): void {
  logger.warn(
    { event: "vmm.cgroup", outcome: "none", reason, ...(err === undefined ? {} : { err }) },
    "VMs run without limits of their own on host memory, processes and CPU share",
  );
}

async function openV2(mount: string): Promise<void> {
  const enable = CONTROLLERS.map((controller) => `+${controller}`).join(" ");
  await fs.writeFile(path.join(mount, "cgroup.subtree_control"), enable);
  await fs.mkdir(v2Parent(mount), { recursive: true });
  await fs.writeFile(path.join(v2Parent(mount), "cgroup.subtree_control"), enable);
}

async function tryV1(directories: Partial<Record<Controller, string>>): Promise<void> {
  for (const directory of Object.values(directories)) {
    const trial = path.join(directory, `sprited-trial-${process.pid}`);
    await fs.mkdir(trial);
    await fs.rmdir(trial);
  }
}

/** Makes the groups of a plan with their limits; leaves none behind when one fails. */
export async function createCgroup(plan: CgroupPlan): Promise<void> {
  try {
    for (const group of plan.groups) {
      await fs.mkdir(group.path, { recursive: true });
      for (const limit of group.limits) await fs.writeFile(path.join(group.path, limit.file), limit.value);
    }
  } catch (error) {
    await removeCgroup(plan.groups.map((group) => group.path)).catch(ignore("the first failure tells more"));
    throw error;
  }
}

/** Removes groups once their processes are gone. Missing is fine. Throws `DeadlineError`. */
export async function removeCgroup(paths: readonly string[]): Promise<void> {
  for (const group of paths) {
    await waitFor("an empty control group", { timeoutMs: REMOVE_TIMEOUT_MS }, async () => {
      try {
        await fs.rmdir(group);
        return true;
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === "ENOENT") return true;
        // A killed process leaves its group a little after it can be seen no more.
        if (code === "EBUSY" || code === "ENOTEMPTY") return false;
        throw error;
      }
    });
  }
}

interface Mount {
  root: string;
  mountPoint: string;
  type: string;
  options: string[];
}

function parseMounts(mountinfo: string): Mount[] {
  return mountinfo.split("\n").flatMap((line) => {
    const [left, right] = line.split(" - ");
    const [, , , root, mountPoint] = (left ?? "").split(" ");
    const [type, , options] = (right ?? "").split(" ");
    return root && mountPoint && type ? [{ root, mountPoint, type, options: (options ?? "").split(",") }] : [];
  });
}

function ownGroup(selfCgroup: string, controller: Controller): string | undefined {
  for (const line of selfCgroup.split("\n")) {
    const [, controllers, group] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers?.split(",").includes(controller)) return group;
  }
  return undefined;
}

/** In a container the mount may begin below the hierarchy's root. */
function relativeGroup(mountRoot: string, group: string): string {
  const relative = path.relative(mountRoot, group);
  return relative.startsWith("..") ? "" : relative;
}
