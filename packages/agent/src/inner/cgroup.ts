/**
 * The cgroups of an inner environment: a guard with the limits that keep room for the agent, and
 * below it the one that is `/` inside, where root may set what it likes.
 *
 * ```
 * /sys/fs/cgroup/inner-<n>          limits, not visible inside
 * /sys/fs/cgroup/inner-<n>/root     root of the cgroup namespace: `init`, `sessions`, the user's own
 * ```
 * A new pair for each environment; old ones are removed when empty.
 */
import fs from "node:fs";
import path from "node:path";

const ROOT = "/sys/fs/cgroup";
const PREFIX = "inner-";
/** Memory left for the kernel and the agent, bytes. */
const RESERVE_BYTES = 112 * 1024 * 1024;
/** Process ids left for the agent and the VM's root. */
const RESERVE_PIDS = 256;

export interface InnerCgroup {
  /** What is `/` inside. */
  directory: string;
  remove(): void;
}

/** Makes the cgroup number `index` with its limits. */
export function createCgroup(index: number): InnerCgroup {
  const guard = path.join(ROOT, `${PREFIX}${index}`);
  removeTree(guard);
  fs.mkdirSync(guard);
  const memoryBytes = Math.max(RESERVE_BYTES, totalMemory() - RESERVE_BYTES);
  fs.writeFileSync(path.join(guard, "memory.max"), String(memoryBytes));
  fs.writeFileSync(path.join(guard, "pids.max"), String(pidsMax()));
  const controllers = fs.readFileSync(path.join(guard, "cgroup.controllers"), "utf8").trim().split(" ");
  fs.writeFileSync(path.join(guard, "cgroup.subtree_control"), controllers.map((name) => `+${name}`).join(" "));
  const directory = path.join(guard, "root");
  fs.mkdirSync(directory);
  return { directory, remove: () => removeTree(guard) };
}

function totalMemory(): number {
  const line = /^MemTotal:\s+([0-9]+) kB$/m.exec(fs.readFileSync("/proc/meminfo", "utf8"));
  return Number(line?.[1]) * 1024;
}

function pidsMax(): number {
  const limits = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"].map((file) => Number(fs.readFileSync(file, "utf8")));
  return Math.max(RESERVE_PIDS, Math.min(...limits) - RESERVE_PIDS);
}

/** Removes a cgroup and those that were made inside it. One that still has processes stays. */
function removeTree(directory: string): void {
  if (!fs.existsSync(directory)) return;
  for (const entry of fs.readdirSync(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) removeTree(path.join(directory, entry.name));
  }
  try {
    fs.rmdirSync(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EBUSY") throw error;
  }
}
