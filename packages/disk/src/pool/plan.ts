/**
 * Decides how the pool is to be had, from what is found on the host. Pure; `open.ts` carries it out.
 *
 * Rules: an existing pool file is always used, because sprites live in it; data that lies in the plain
 * pool directory is never hidden under a mount; nothing is shrunk.
 */
const GIB = 1024 ** 3;

/** What was found. */
export interface PoolFacts {
  isRoot: boolean;
  /** Whether a finished pool file is there, and its size in bytes. */
  poolFileBytes: number | undefined;
  /** What is mounted on the pool directory. */
  mounted: "none" | "pool-file" | "other";
  /** Whether files in the pool directory, as it is now, share blocks. */
  reflinks: boolean;
  /** Whether the pool directory holds data. */
  hasData: boolean;
  /** Wanted size, GB. */
  poolSizeGb: number;
}

/** What to do. */
export type PoolPlan =
  | { kind: "use"; cloneKind: "reflink" | "copy"; reason: string; growToBytes?: number }
  | { kind: "mount"; reason: string; growToBytes?: number }
  | { kind: "create"; bytes: number; reason: string }
  | { kind: "refuse"; reason: string };

const COPY_COST = "every new disk is a sparse copy of its image: seconds instead of milliseconds, and no blocks are shared";

export function planPool(facts: PoolFacts): PoolPlan {
  const wanted = facts.poolSizeGb * GIB;
  const { poolFileBytes } = facts;
  if (poolFileBytes !== undefined) {
    const grow = wanted > poolFileBytes && facts.isRoot ? { growToBytes: wanted } : {};
    if (facts.mounted === "pool-file") return { kind: "use", cloneKind: "reflink", reason: "an XFS pool file, mounted", ...grow };
    if (facts.mounted === "other")
      return { kind: "refuse", reason: "something else than the pool file is mounted on the pool directory: unmount it" };
    if (facts.hasData)
      return { kind: "refuse", reason: "the pool directory holds data that mounting the pool file would hide: move it away" };
    if (!facts.isRoot) return { kind: "refuse", reason: "the pool file exists, but mounting it needs root: start as root" };
    return { kind: "mount", reason: "an XFS pool file, mounted", ...grow };
  }
  if (facts.reflinks) return { kind: "use", cloneKind: "reflink", reason: "the file system of the home shares blocks between clones" };
  if (facts.hasData) {
    return {
      kind: "use",
      cloneKind: "copy",
      reason: `the file system of the home cannot share blocks, and the pool already holds data: ${COPY_COST}`,
    };
  }
  if (facts.mounted !== "none") {
    return { kind: "use", cloneKind: "copy", reason: `what is mounted on the pool directory cannot share blocks: ${COPY_COST}` };
  }
  if (!facts.isRoot) {
    return {
      kind: "use",
      cloneKind: "copy",
      reason: `the file system of the home cannot share blocks, and making an XFS pool needs root: ${COPY_COST}`,
    };
  }
  return { kind: "create", bytes: wanted, reason: "an XFS pool file, mounted, because the file system of the home cannot share blocks" };
}

/** One line of `/proc/self/mountinfo`, as far as it matters here. */
export interface Mount {
  mountPoint: string;
  type: string;
  source: string;
}

/** The topmost mount on exactly `directory`; undefined when there is none. */
export function findMount(mountinfo: string, directory: string): Mount | undefined {
  let found: Mount | undefined;
  for (const line of mountinfo.split("\n")) {
    const [before, after] = line.split(" - ");
    const mountPoint = before?.split(" ")[4];
    const [type, source] = after?.split(" ") ?? [];
    if (mountPoint === undefined || type === undefined || source === undefined) continue;
    if (unescapeMount(mountPoint) === directory) found = { mountPoint: directory, type, source: unescapeMount(source) };
  }
  return found;
}

function unescapeMount(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** Space of one file system, bytes. */
export interface SpaceFacts {
  pool: number;
  /** Free where the pool file lies; undefined when the pool is no file of its own. */
  underneath: number | undefined;
  floor: number;
}

/**
 * Bytes that new data may take. A sparse pool file promises more than the disk below it has: a write
 * that finds no room there is an I/O error that takes the whole pool down. So the smaller counts.
 */
export function usableBytes(facts: SpaceFacts): number {
  return Math.max(0, Math.min(facts.pool, facts.underneath ?? facts.pool) - facts.floor);
}

/** `12.3 GB` for people. */
export function formatBytes(bytes: number): string {
  if (bytes >= GIB) return `${(bytes / GIB).toFixed(1)} GB`;
  return `${Math.ceil(bytes / 1024 ** 2)} MB`;
}
