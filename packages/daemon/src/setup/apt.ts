import { run, RunError, sleep } from "@sprited/base";
import type { OnProgress } from "@sprited/disk";
import { SetupError } from "./errors.ts";

/**
 * Installs packages with apt-get, without a terminal and without asking. Waits for another
 * package manager to finish; never adds sources and never changes any other package.
 */

/** How long another package manager may hold the lock, `ms`. */
const LOCK_TIMEOUT_MS = 600_000;
const LOCK_RETRY_MS = 2_000;
/** Download and unpacking of everything over a slow line, `ms`. */
const INSTALL_TIMEOUT_MS = 1_800_000;

export interface AptOptions {
  onProgress: OnProgress;
  signal?: AbortSignal | undefined;
}

/** Installs `packages`; needs root. Throws `SetupError`. */
export async function installPackages(packages: readonly string[], options: AptOptions): Promise<void> {
  options.onProgress({ step: "reading package lists" });
  // An outdated list is good enough when the mirror cannot be reached: the packages may lie in apt's cache.
  const listsError = await attempt(["update", "-q", "-o", "APT::Update::Error-Mode=any"], options);
  const installError = await attempt(installArguments(packages), options);
  if (installError === undefined) return;
  throw explainAptFailure(`${listsError?.stderr ?? ""}\n${installError.stderr}`, installError);
}

/** Arguments of the installation. Pure. */
export function installArguments(packages: readonly string[]): string[] {
  return ["install", "-q", "-y", "--no-install-recommends", "--no-remove", "-o", "APT::Status-Fd=1", "-o", "Dpkg::Use-Pty=0", ...packages];
}

/** What apt's error output says about the cause. Pure. */
export function explainAptFailure(output: string, cause?: unknown): SetupError {
  if (isLocked(output)) {
    return new SetupError(
      "packages_failed",
      "Another package manager has been at work for 10 minutes. Wait until it is done (or end it) and start again.",
      { cause },
    );
  }
  if (
    /(Temporary failure resolving|Could not resolve|Could not connect|Unable to connect|Network is unreachable|Connection timed out|No route to host)/.test(
      output,
    )
  ) {
    return new SetupError(
      "no_network",
      "The Debian or Ubuntu mirror cannot be reached, so system packages cannot be installed. Check the network and start again.",
      {
        cause,
      },
    );
  }
  if (/(No space left on device|You don't have enough free space)/.test(output)) {
    return new SetupError("no_space", "There is not enough room on the system's disk for the packages. Free some and start again.", {
      cause,
    });
  }
  const words = output
    .split("\n")
    .filter((line) => line.startsWith("E: "))
    .join("\n");
  return new SetupError("packages_failed", `apt-get could not install the packages.${words === "" ? "" : `\n${words}`}`, { cause });
}

/** A line of APT::Status-Fd as progress; undefined for any other line. Pure. */
export function parseAptStatus(line: string): { fraction: number; detail: string } | undefined {
  const match = /^(dlstatus|pmstatus):[^:]*:(\d+(?:\.\d+)?):(.*)$/.exec(line);
  if (match?.[2] === undefined) return undefined;
  // Both phases count to 100; fetching is shown as the first half.
  const half = match[1] === "dlstatus" ? 0 : 0.5;
  return { fraction: Math.min(1, half + Number(match[2]) / 200), detail: match[3] ?? "" };
}

function isLocked(output: string): boolean {
  return /(Could not get lock|Unable to acquire the dpkg frontend lock|Unable to lock directory)/.test(output);
}

/** Runs apt-get, again and again while another one holds the lock. Returns its failure. */
async function attempt(args: readonly string[], options: AptOptions): Promise<RunError | undefined> {
  const deadline = performance.now() + LOCK_TIMEOUT_MS;
  for (;;) {
    try {
      await run("apt-get", args, {
        env: { DEBIAN_FRONTEND: "noninteractive" },
        timeoutMs: INSTALL_TIMEOUT_MS,
        signal: options.signal,
        onLine: (line) => {
          const status = parseAptStatus(line);
          if (status) options.onProgress({ step: "installing", ...status });
        },
      });
      return undefined;
    } catch (error) {
      if (!(error instanceof RunError)) throw error;
      if (!isLocked(error.stderr) || performance.now() > deadline) return error;
      options.onProgress({ step: "waiting", detail: "another package manager is at work; waiting for it" });
      await sleep(LOCK_RETRY_MS, { signal: options.signal });
    }
  }
}
