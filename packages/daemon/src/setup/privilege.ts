import { accessSync, constants } from "node:fs";
import path from "node:path";
import { PROGRAM_DIRECTORIES } from "./packages.ts";

/**
 * Root, sudo, or neither: what each means for the set-up and the daemon. Pure but for
 * `findProgram`.
 */

/** How this process can act as root. */
export type PrivilegePlan =
  /** It is root. */
  | { kind: "root" }
  /** The daemon is started again through sudo. */
  | { kind: "sudo"; program: string }
  /** It goes on without; `WITHOUT_ROOT` says what that means. */
  | { kind: "unprivileged" };

export interface PrivilegeFacts {
  uid: number;
  /** Path of sudo, if installed. */
  sudo: string | undefined;
  /** The user said not to use root. */
  refused: boolean;
}

/** What does not work without root, a sentence each. */
export const WITHOUT_ROOT: readonly string[] = [
  "Sprites have no network: namespaces, taps and address translation need root.",
  "VMs run as your own user, without resource limits of their own: other users and control groups need root.",
  "Disks are copied instead of cloned unless the home's file system can clone: making a disk pool needs root.",
  "Base images can be built only with the package uidmap and a range for your user in /etc/subuid and /etc/subgid.",
  "Missing system packages must be installed by someone with root.",
];

/** Decides how to go on. */
export function planPrivilege(facts: PrivilegeFacts): PrivilegePlan {
  if (facts.uid === 0) return { kind: "root" };
  if (facts.sudo !== undefined && !facts.refused) return { kind: "sudo", program: facts.sudo };
  return { kind: "unprivileged" };
}

/**
 * Arguments that run a command through sudo with the caller's own settings, and with the process
 * to watch instead of signals, which an unprivileged caller cannot send to it. Pure.
 */
export function sudoArguments(command: readonly string[], settings: Readonly<Record<string, string>>): string[] {
  return ["--", "/usr/bin/env", ...Object.entries(settings).map(([name, value]) => `${name}=${value}`), ...command];
}

/** Finds a program in the system's directories. */
export function findProgram(name: string): string | undefined {
  return PROGRAM_DIRECTORIES.map((directory) => path.join(directory, name)).find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    // Missing and not executable are one to the caller.
    return false;
  }
}
