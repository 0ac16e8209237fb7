import { spawn } from "node:child_process";
import os from "node:os";
import { planPrivilege, type PrivilegeFacts, sudoArguments, WITHOUT_ROOT } from "../setup/index.ts";

/**
 * A start by a user with sudo: the same command again, as root, with the user's home and
 * settings. The user's own process stays in front and passes on how the other one ended.
 */

export interface ElevateOptions {
  /** `process.execArgv` and `process.argv` of this run. */
  command: readonly string[];
  /** Settings to take along: sudo drops the environment. */
  settings: Readonly<Record<string, string>>;
  /** Who runs this, how to become root, and whether that is wanted. */
  facts: PrivilegeFacts;
  say: (line: string) => void;
}

/** Runs the command as root and resolves with its exit code; undefined: go on in this process. */
export async function elevate(options: ElevateOptions): Promise<number | undefined> {
  const plan = planPrivilege(options.facts);
  if (plan.kind === "root") return undefined;
  if (plan.kind === "sudo") {
    options.say("Networks, disk pool and confinement of the VMs need root; continuing through sudo (--no-sudo goes on without).");
    if ((await runInFront(plan.program, ["-v"])) === 0) {
      return runInFront(plan.program, sudoArguments([...options.command, "--starter-pid", String(process.pid)], options.settings));
    }
    options.say("sudo did not let us become root.");
  }
  options.say("Going on without root:");
  for (const sentence of WITHOUT_ROOT) options.say(`  - ${sentence}`);
  return undefined;
}

/** Runs a program on our terminal. Resolves with its exit code, 128 + signal when it was killed. */
async function runInFront(program: string, args: readonly string[]): Promise<number> {
  const child = spawn(program, args, { stdio: "inherit" });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : os.constants.signals[signal])));
  });
}
