/**
 * A cgroup of its own for every VM process, with limits: memory (guest RAM and what QEMU itself
 * needs) and number of threads. Version 2 where the host delegates its controllers, else
 * version 1, else none, which is said once by the driver.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, sleep } from "@sprited/base";

/** What QEMU may use beside the guest's RAM, MiB: translated code, device buffers, page tables. */
const OVERHEAD_MIB = 512;
const THREADS_MAX = 256;
/** A cgroup is removable only when its last process is reaped; tries and pause, ms. */
const REMOVE_TRIES = 50;
const REMOVE_EVERY_MS = 20;

export type CgroupVersion = { kind: "v2"; root: string } | { kind: "v1"; root: string; controllers: string[] } | { kind: "none"; reason: string };

export interface CgroupPlan {
  /** Directories to make. */
  directories: string[];
  /** Files to write after that. A limit the host does not offer may fail. */
  limits: { file: string; value: string }[];
  /** Files into which the process writes its own pid before it becomes the VMM. */
  procs: string[];
}

/** What a VM's cgroup consists of. Pure. */
export function planCgroup(version: CgroupVersion, incarnation: string, memoryMib: number): CgroupPlan {
  const name = path.join("sprited", incarnation);
  const memory = String((memoryMib + OVERHEAD_MIB) * 1024 * 1024);
  if (version.kind === "none") return { directories: [], limits: [], procs: [] };
  if (version.kind === "v2") {
    const directory = path.join(version.root, name);
    return {
      directories: [directory],
      limits: [
        { file: path.join(directory, "memory.max"), value: memory },
        { file: path.join(directory, "memory.swap.max"), value: "0" },
        { file: path.join(directory, "pids.max"), value: String(THREADS_MAX) },
      ],
      procs: [path.join(directory, "cgroup.procs")],
    };
  }
  const at = (controller: string): string => path.join(version.root, controller, name);
  return {
    directories: version.controllers.map(at),
    limits: [
      ...(version.controllers.includes("memory") ? [{ file: path.join(at("memory"), "memory.limit_in_bytes"), value: memory }] : []),
      ...(version.controllers.includes("pids") ? [{ file: path.join(at("pids"), "pids.max"), value: String(THREADS_MAX) }] : []),
    ],
    procs: version.controllers.map((controller) => path.join(at(controller), "cgroup.procs")),
  };
}

/** Which cgroups this host lets us use; `root` is where they are mounted. */
export async function findCgroups(root = "/sys/fs/cgroup"): Promise<CgroupVersion> {
  const available = await read(path.join(root, "cgroup.controllers"));
  if (available !== undefined) {
    if (!available.split(/\s+/).includes("memory")) return { kind: "none", reason: "the memory controller is not delegated" };
    return (await enableV2(root)) ? { kind: "v2", root } : { kind: "none", reason: "cgroups cannot be written" };
  }
  const controllers: string[] = [];
  for (const controller of ["memory", "pids", "cpu"]) {
    const made = await fs.mkdir(path.join(root, controller, "sprited"), { recursive: true }).then(
      () => true,
      () => false,
    );
    if (made && (await read(path.join(root, controller, "sprited", "cgroup.procs"))) !== undefined) controllers.push(controller);
  }
  return controllers.length > 0 ? { kind: "v1", root, controllers } : { kind: "none", reason: "no cgroup controller is writable" };
}

async function enableV2(root: string): Promise<boolean> {
  const base = path.join(root, "sprited");
  try {
    await fs.mkdir(base, { recursive: true });
    for (const directory of [root, base]) {
      await fs.writeFile(path.join(directory, "cgroup.subtree_control"), "+memory +pids +cpu").catch(ignore("it may be enabled already, or busy; the limits tell"));
    }
    return (await read(path.join(base, "cgroup.subtree_control")))?.includes("memory") ?? false;
  } catch {
    return false;
  }
}

/** Makes it. What the host does not offer is left out. */
export async function makeCgroup(plan: CgroupPlan): Promise<void> {
  for (const directory of plan.directories) await fs.mkdir(directory, { recursive: true });
  for (const { file, value } of plan.limits) await fs.writeFile(file, value).catch(ignore("a controller without this limit confines less"));
}

/** Removes it; its processes must have ended. */
export async function removeCgroup(directories: readonly string[]): Promise<void> {
  for (const directory of directories) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await fs.rmdir(directory);
        break;
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === "ENOENT") break;
        if (code !== "EBUSY" || attempt === REMOVE_TRIES) throw error;
        await sleep(REMOVE_EVERY_MS);
      }
    }
  }
}

async function read(file: string): Promise<string | undefined> {
  try {
    return await fs.readFile(file, "utf8");
  } catch {
    return undefined;
  }
}
