/**
 * Trees of files that belong to the many users of a Linux. Root owns them as they are; anyone else
 * owns them inside a user namespace, where the caller is root and the rest is a range of
 * /etc/subuid. Commands here run as the one who may read, write and remove all of it.
 */
import { run } from "@sprited/base";
import { DiskError } from "../errors.ts";

/** Limit of one command, ms: packing a large tree on a slow disk. */
const COMMAND_TIMEOUT_MS = 60 * 60_000;

/** Runs a command as the owner of trees and returns its output. Throws `RunError`. */
export async function runAsTreeOwner(
  command: readonly string[],
  options: { isRoot: boolean; signal?: AbortSignal | undefined },
): Promise<string> {
  const wrapper = options.isRoot ? [] : ["unshare", "--map-root-user", "--map-auto", "--"];
  const { stdout } = await run("env", [...wrapper, ...command], { timeoutMs: COMMAND_TIMEOUT_MS, signal: options.signal });
  return stdout;
}

/** Throws `disk_build_failed` unless this user can own trees. */
export async function requireTreeOwner(isRoot: boolean): Promise<void> {
  if (isRoot) return;
  try {
    await runAsTreeOwner(["true"], { isRoot });
  } catch (cause) {
    throw new DiskError(
      "disk_build_failed",
      "building an image without root needs user namespaces: install the package uidmap and give your user a range in /etc/subuid and /etc/subgid, or build as root",
      { cause },
    );
  }
}
