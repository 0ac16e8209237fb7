/**
 * Starts, recognises, watches and ends VMM processes. They are nobody's children in spirit: each
 * leads a session of its own and outlives the daemon.
 *
 * Invariant: a process is known by host boot, pid *and* start time, never by pid alone, so that
 * a pid the host gave to something else is neither mistaken for a VM nor killed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs/promises";
import { ignore, type Scope, sleep } from "@sprited/base";
import { VmmError } from "../errors.ts";
import type { VmJail } from "../vmm.ts";
import { findText, type VmPaths } from "./record.ts";

/** How often a process that is not our child is looked at, ms. */
const WATCH_EVERY_MS = 250;
/** How often a process that is about to end is looked at, ms. */
const ENDING_EVERY_MS = 5;
/** How often a launched process is asked who it is, ms. */
const LAUNCH_EVERY_MS = 1;
/** How long it is looked at that often, ms. */
const ENDING_WITHIN_MS = 1_000;
/** Longest wait for a killed process, ms. */
const KILL_TIMEOUT_MS = 8_000;
/** QEMU's own output that is kept, bytes; looked at with `WATCH_EVERY_MS`. */
const LOG_BYTES_MAX = 262_144;
/** Killed before the daemon and before the guest's host neighbours when the host is out of memory. */
const OOM_SCORE = "500";

/**
 * Becomes the VMM: joins its control groups and says who it is while it is still the parent's,
 * then drops what it must not have. Constant; everything variable comes as an argument. The
 * record is written before anything can fail later, so that no VM is ever without one.
 */
const LAUNCHER = `
set -eu
umask 077
read -r boot </proc/sys/kernel/random/boot_id
read -r stat </proc/$$/stat
printf '%s\\n%s\\n' "$boot" "$stat" >"$1"
shift
while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done
shift
echo ${OOM_SCORE} >/proc/self/oom_score_adj || :
ulimit -c 0
exec "$@"
`;

/** Names one process for as long as the host runs, and never another. */
export interface ProcessIdentity {
  bootId: string;
  pid: number;
  /** Clock ticks between the host's boot and the process's start. */
  startTicks: string;
}

/** What ended a process, as far as it can be known: adopted ones leave no exit status. */
export interface ProcessEnd {
  code: number | undefined;
  signal: string | undefined;
}

export interface LaunchPlan {
  program: string;
  args: readonly string[];
  jail: VmJail | undefined;
  /** Groups to join first. */
  cgroups: readonly string[];
  /** Where the process writes who it is. */
  identityPath: string;
  /** For a process that is of no use to a later program run: it ends when this program does, however that happens. */
  endsWithProgram?: boolean;
}

/** argv of a launch. Pure. */
export function launchArgs(plan: LaunchPlan): string[] {
  const { jail } = plan;
  const confine = jail
    ? [
        ["nsenter", `--net=${jail.netnsPath}`, "--"],
        [
          "setpriv",
          `--reuid=${jail.uid}`,
          `--regid=${jail.gid}`,
          "--clear-groups",
          "--no-new-privs",
          "--inh-caps=-all",
          "--bounding-set=-all",
          "--",
        ],
      ].flat()
    : [];
  const bind = plan.endsWithProgram ? ["setpriv", "--pdeathsig=KILL", "--"] : [];
  return ["-c", LAUNCHER, "sprited-vmm", plan.identityPath, ...plan.cgroups, "--", ...confine, ...bind, plan.program, ...plan.args];
}

/**
 * Starts a VMM. `files` become its descriptors from 3 on, `log` its standard output and error.
 * Throws `vmm_unavailable` when the launcher itself cannot start.
 */
export async function launch(plan: LaunchPlan, io: { directory: string; log: number; files: readonly number[] }): Promise<ChildProcess> {
  const child = spawn("/bin/sh", launchArgs(plan), {
    cwd: io.directory,
    detached: true,
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LANG: "C" },
    stdio: ["ignore", io.log, io.log, ...io.files],
  });
  child.unref();
  if (child.pid !== undefined) return child;
  const [cause] = await once(child, "error");
  throw new VmmError("vmm_unavailable", "a VMM process could not be started", { cause });
}

/** Who the process in the file that `LAUNCHER` wrote is; undefined when the file says nothing usable. */
export function parseIdentity(text: string | undefined): ProcessIdentity | undefined {
  const [bootId, line] = (text ?? "").split("\n");
  const stat = parseStat(line ?? "");
  return bootId && stat ? { bootId, pid: stat.pid, startTicks: stat.startTicks } : undefined;
}

/** Fields of a line of /proc/PID/stat; the program's name in it may hold blanks and brackets. */
export function parseStat(line: string): { pid: number; state: string; startTicks: string } | undefined {
  const match = /^(\d{1,10}) \(.*\) (\S) (.*)$/s.exec(line.trimEnd());
  if (!match) return undefined;
  // Field 22, counted from 1; the third group begins with field 4.
  const startTicks = match[3]?.split(" ")[18];
  if (!startTicks || !/^\d+$/.test(startTicks)) return undefined;
  return { pid: Number(match[1]), state: match[2] ?? "", startTicks };
}

/** Whether that very process still runs. A zombie does not. */
export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  const bootId = await findText("/proc/sys/kernel/random/boot_id");
  if (bootId?.trim() !== identity.bootId) return false;
  const stat = parseStat((await findText(`/proc/${identity.pid}/stat`)) ?? "");
  return stat !== undefined && stat.startTicks === identity.startTicks && stat.state !== "Z" && stat.state !== "X";
}

/** Watches one process until it is gone, and keeps its log bounded meanwhile. */
export class ProcessWatch {
  readonly identity: ProcessIdentity;
  /** Resolves once when the process is gone. Never rejects; never resolves after `close`. */
  readonly ended: Promise<ProcessEnd>;
  readonly #closed = new AbortController();
  readonly #logPath: string;
  #closeUntilMs = 0;
  #wake = new AbortController();

  constructor(identity: ProcessIdentity, options: { child?: ChildProcess | undefined; logPath: string }) {
    this.identity = identity;
    this.#logPath = options.logPath;
    const { child } = options;
    this.ended = new Promise((resolve) => {
      if (child) {
        const settle = (): void => resolve({ code: child.exitCode ?? undefined, signal: child.signalCode ?? undefined });
        if (child.exitCode !== null || child.signalCode !== null) settle();
        else child.once("exit", settle);
      }
      void this.#poll(() => resolve({ code: undefined, signal: undefined }), child !== undefined);
    });
    void this.ended.then(() => this.close());
  }

  /** Looks closely for a while: something says that the process is about to end. */
  expectEnd(): void {
    this.#closeUntilMs = performance.now() + ENDING_WITHIN_MS;
    this.#wake.abort();
  }

  /** Kills the process and waits until it is gone. Throws `vmm_timeout` when the host keeps it. */
  async kill(): Promise<void> {
    const deadline = performance.now() + KILL_TIMEOUT_MS;
    this.expectEnd();
    while (await isAlive(this.identity)) {
      signalProcess(this.identity.pid, "SIGKILL");
      if (performance.now() > deadline)
        throw new VmmError("vmm_timeout", `process ${this.identity.pid} does not end although it was killed`);
      await sleep(ENDING_EVERY_MS);
    }
  }

  /** Stops watching; the process stays. */
  close(): void {
    this.#closed.abort();
    this.#wake.abort();
  }

  async #poll(onGone: () => void, isChild: boolean): Promise<void> {
    while (!this.#closed.signal.aborted) {
      const isGone = !(await isAlive(this.identity));
      // A child's exit status comes by its event, which the system may deliver a little later.
      if (isGone && isChild) await sleep(WATCH_EVERY_MS);
      if (isGone) return onGone();
      await boundLog(this.#logPath);
      if (this.#wake.signal.aborted) this.#wake = new AbortController();
      const everyMs = performance.now() < this.#closeUntilMs ? ENDING_EVERY_MS : WATCH_EVERY_MS;
      // VMs outlive this program; watching them must not keep it running.
      await sleep(everyMs, { signal: this.#wake.signal, ref: false }).catch(ignore("woken early"));
    }
  }
}

/** Sends a signal; a process that is gone already is fine. */
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** Cuts a log that grew too long to its end. It is open for appending, so its writer goes on behind that. */
async function boundLog(logPath: string): Promise<void> {
  try {
    const { size } = await fs.stat(logPath);
    if (size <= LOG_BYTES_MAX) return;
    await fs.writeFile(logPath, await logTail(logPath, LOG_BYTES_MAX / 4));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

/** Last bytes of a log as text; empty when there is none. */
export async function logTail(logPath: string, bytesMax: number): Promise<string> {
  try {
    await using file = await fs.open(logPath, "r");
    const { size } = await file.stat();
    const length = Math.min(size, bytesMax);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
    return buffer.subarray(0, bytesRead).toString("utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
}

/**
 * Waits until a launched process has said who it is, and watches it from then on. Before that it
 * is killed as the child it still is; afterwards by identity. Throws `vmm_exited_early` with its
 * own words as the cause when it ends first.
 */
export async function watchLaunched(
  child: ChildProcess,
  paths: VmPaths,
  context: { signal: AbortSignal; scope: Scope },
): Promise<ProcessWatch> {
  const { scope } = context;
  scope.defer("launched process", async () => {
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  });
  for (;;) {
    const identity = parseIdentity(await findText(paths.process));
    if (identity) return new ProcessWatch(identity, { child, logPath: paths.log });
    if (child.exitCode !== null || child.signalCode !== null) {
      throw new VmmError("vmm_exited_early", "the VMM process could not be launched", {
        cause: new Error(await logTail(paths.log, 4_096)),
      });
    }
    await sleep(LAUNCH_EVERY_MS, { signal: context.signal });
  }
}
