/**
 * Starts a VMM process that outlives this program: a session of its own, no pipe to us, in its
 * cgroup before it runs, in its network namespace, as its own user. The only file that spawns
 * long-lived processes.
 */
import { spawn } from "node:child_process";
import fs from "node:fs/promises";
import type { VmJail } from "../vmm.ts";

/** Largest log of a VMM process, KiB; its own messages only, guests cannot write there. */
const FILES_OPEN_MAX = 1024;

/**
 * The shell writes its pid into the cgroups and then becomes the VMM. Arguments after `--` are
 * taken as they are, never as shell text.
 */
const ENTER = 'for f in $SPRITED_CGROUPS; do echo $$ > "$f" || exit 125; done; unset SPRITED_CGROUPS; ulimit -c 0; ulimit -n "$0"; exec "$@"';

export interface LaunchPlan {
  program: string;
  args: readonly string[];
  cgroupProcs: readonly string[];
  jail: VmJail | undefined;
  logPath: string;
}

/** argv of the whole chain. Pure. */
export function launchArgv(plan: Omit<LaunchPlan, "logPath" | "cgroupProcs">): string[] {
  const { jail } = plan;
  const confine = jail
    ? [
        ...["nsenter", `--net=${jail.netnsPath}`, "--"],
        ...["setpriv", `--reuid=${jail.uid}`, `--regid=${jail.gid}`, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"],
      ]
    : [];
  return ["/bin/sh", "-c", ENTER, String(FILES_OPEN_MAX), ...confine, plan.program, ...plan.args];
}

/** Starts it; the pid stays the same through the chain. `exited` resolves when it was our child and ended. */
export async function launch(plan: LaunchPlan): Promise<{ pid: number; exited: Promise<{ code: number | null; signal: string | null }> }> {
  const [command = "", ...args] = launchArgv(plan);
  await using log = await fs.open(plan.logPath, "w", 0o600);
  const child = spawn(command, args, {
    detached: true,
    stdio: ["ignore", log.fd, log.fd],
    cwd: "/",
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", SPRITED_CGROUPS: plan.cgroupProcs.join(" ") },
  });
  const exited = new Promise<{ code: number | null; signal: string | null }>((resolve) => {
    child.once("exit", (code, signal) => resolve({ code, signal }));
    child.once("error", () => resolve({ code: 127, signal: null }));
  });
  child.unref();
  if (child.pid === undefined) throw new Error("the shell could not be started");
  return { pid: child.pid, exited };
}
