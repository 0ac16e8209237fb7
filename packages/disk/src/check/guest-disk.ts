/**
 * Checks the file system on a clone of a disk that a guest has written. The content is hostile:
 * the checker runs as a user of its own without any right, network or other process to reach,
 * with bounded memory and time, and only ever sees a throwaway clone.
 */
import fs from "node:fs/promises";
import { run, RunError } from "@sprited/base";

/** Longest check, ms: a full disk of the largest size on a slow host. */
const CHECK_TIMEOUT_MS = 30 * 60_000;
/** Memory a check may take, bytes. */
const CHECK_MEMORY_BYTES = 2 * 1024 ** 3;
/** e2fsck: nothing found, errors corrected. */
const REPLAYED = [0, 1];

/** What a check found. */
export interface DiskVerdict {
  healthy: boolean;
  /** The checker's own words, for the log. */
  detail: string;
}

export interface GuestDiskCheckOptions {
  /** User and group of the checker, used by nothing else; only root can become it. */
  uid: number;
  isRoot: boolean;
  signal?: AbortSignal | undefined;
}

/**
 * Checks an ext4 file system. What a mount would do first (replay the journal, drop files that
 * were open without a name) is done to the clone; what is wrong after that is a verdict.
 * Throws `RunError` when the check itself could not be done.
 */
export async function checkGuestDisk(clone: string, options: GuestDiskCheckOptions): Promise<DiskVerdict> {
  await fs.access(clone);
  if (options.isRoot) await fs.chown(clone, options.uid, options.uid);
  const replay = await e2fsck(["-p", clone], options);
  if (!REPLAYED.includes(replay.exitCode)) return { healthy: false, detail: replay.output };
  const check = await e2fsck(["-f", "-n", clone], options);
  return { healthy: check.exitCode === 0, detail: check.output };
}

/** Bits of e2fsck's exit code that tell of the file system; 8 also means what it could not do itself. */
const VERDICT_MAX = 15;
/** Words of a failure that says nothing about the file system. */
const NO_VERDICT = /memory|no space|permission denied|input\/output error/i;

/** Runs the checker. Throws `RunError` when it came to no verdict. */
async function e2fsck(args: readonly string[], options: GuestDiskCheckOptions): Promise<{ exitCode: number; output: string }> {
  const [program = "", ...rest] = confined(["e2fsck", ...args], options);
  try {
    const { stdout } = await run(program, rest, { timeoutMs: CHECK_TIMEOUT_MS, signal: options.signal });
    return { exitCode: 0, output: stdout };
  } catch (error) {
    if (!(error instanceof RunError) || error.exitCode === undefined || error.exitCode > VERDICT_MAX) throw error;
    if (error.exitCode >= 8 && NO_VERDICT.test(error.stderr)) throw error;
    return { exitCode: error.exitCode, output: error.stderr.slice(-4000) };
  }
}

/** The command with everything taken from it that it does not need. Pure. */
export function confined(command: readonly string[], options: { uid: number; isRoot: boolean }): string[] {
  const limits = ["prlimit", `--as=${CHECK_MEMORY_BYTES}`, "--core=0", "--nofile=64", "--"];
  if (!options.isRoot) return [...limits, ...command];
  const nobody = `setpriv --reuid=${options.uid} --regid=${options.uid} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all --ambient-caps=-all --`;
  return [..."unshare --net --ipc --uts --pid --fork --kill-child --".split(" "), ...nobody.split(" "), ...limits, ...command];
}
