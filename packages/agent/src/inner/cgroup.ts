/**
 * The cgroups of an inner environment: a guard with the limits that keep room for the agent, and
 * below it the one that is `/` inside, where root may set what it likes.
 *
 * ```
 * /sys/fs/cgroup/inner-<n>                 limits, not visible inside
 * /sys/fs/cgroup/inner-<n>/root            root of the cgroup namespace: `init`, the user's own, and
 * /sys/fs/cgroup/inner-<n>/root/sessions/  one for each running command: no command starves another
 * ```
 * A new tree for each environment; old ones are removed when empty.
 */
import fs from "node:fs";
import path from "node:path";

const ROOT = "/sys/fs/cgroup";
const PREFIX = "inner-";
/** Memory left for the kernel and the agent, bytes: what is never charged to a cgroup comes on top. */
const RESERVE_BYTES = 144 * 1024 * 1024;
/** Process ids left for the agent and the VM's root. */
const RESERVE_PIDS = 256;
/** Of those allowed inside, what one command leaves for others: enough to end a fork bomb. */
const SPARE_PIDS = 128;

export interface InnerCgroup {
  /** What is `/` inside. */
  directory: string;
  /** Most processes one command may have. */
  pidsPerSession: number;
  /** Stops every process inside, or lets them go on. Nobody inside can change that. */
  setFrozen(isFrozen: boolean): void;
  /** Whether every process inside stands still. */
  isFrozen(): boolean;
  remove(): void;
}

/** Makes the cgroup number `index` with its limits. */
export function createCgroup(index: number): InnerCgroup {
  const guard = path.join(ROOT, `${PREFIX}${index}`);
  removeTree(guard);
  fs.mkdirSync(guard);
  const memoryBytes = Math.max(RESERVE_BYTES / 2, totalMemory() - RESERVE_BYTES);
  fs.writeFileSync(path.join(guard, "memory.max"), String(memoryBytes));
  const controllers = fs.readFileSync(path.join(guard, "cgroup.controllers"), "utf8").trim().split(" ");
  fs.writeFileSync(path.join(guard, "cgroup.subtree_control"), controllers.map((name) => `+${name}`).join(" "));
  const directory = path.join(guard, "root");
  fs.mkdirSync(directory);
  const pids = pidsMax();
  fs.writeFileSync(path.join(guard, "pids.max"), String(pids));
  return {
    directory,
    pidsPerSession: pids - SPARE_PIDS,
    setFrozen: (isFrozen) => fs.writeFileSync(path.join(guard, "cgroup.freeze"), isFrozen ? "1" : "0"),
    isFrozen: () => /^frozen 1$/m.test(fs.readFileSync(path.join(guard, "cgroup.events"), "utf8")),
    remove: () => removeTree(guard),
  };
}

function totalMemory(): number {
  const line = /^MemTotal:\s+([0-9]+) kB$/m.exec(fs.readFileSync("/proc/meminfo", "utf8"));
  return Number(line?.[1]) * 1024;
}

function pidsMax(): number {
  const limits = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"].map((file) => Number(fs.readFileSync(file, "utf8")));
  // The kernel allows as many threads as fill an eighth of the memory with their stacks alone; with
  // what else a process costs it, half of that is what this VM can bear.
  return Math.max(2 * RESERVE_PIDS, Math.floor(Math.min(...limits) / 2) - RESERVE_PIDS);
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
