/**
 * Opens what a VM gets as descriptors. The daemon opens, QEMU inherits: so an unprivileged QEMU
 * needs no right to walk to any file, and a link put in its place later changes nothing.
 */
import { constants } from "node:fs";
import fs from "node:fs/promises";
import { ignore, Scope } from "@sprited/base";
import { VmmError } from "../errors.ts";
import type { VmJail, VmSpec } from "../vmm.ts";
import { ramMib, type VmFile } from "./args.ts";
import { unusable } from "./snapshot.ts";

const FLAGS = { create: "w+", write: "r+", read: "r", append: constants.O_WRONLY } as const;

export interface OpenVmFiles extends AsyncDisposable {
  descriptors: number[];
}

/**
 * Opens the files in order; disposing closes them. Throws `vmm_snapshot_unusable` for a missing
 * RAM or state file, `vmm_control` for any other.
 */
export async function openVmFiles(files: readonly VmFile[], spec: VmSpec): Promise<OpenVmFiles> {
  await using scope = new Scope("files of a VM");
  const descriptors: number[] = [];
  for (const file of files) {
    const handle = await openFile(file);
    scope.defer(file.role, () => handle.close());
    if (file.access === "create") await handle.truncate(ramMib(spec.shape) * 1024 * 1024);
    if (file.role === "ram" && spec.jail) await grant(handle, file.access, spec.jail);
    descriptors.push(handle.fd);
  }
  const owned = scope.move();
  return { descriptors, [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose]() };
}

/** Removes RAM that a VM which never ran had been given. */
export async function removeFreshRam(spec: VmSpec): Promise<void> {
  if (spec.memory.kind === "fresh") await fs.rm(spec.memory.path, { force: true }).catch(ignore("the start's own failure tells more"));
}

async function openFile(file: VmFile): Promise<fs.FileHandle> {
  try {
    return await fs.open(file.path, FLAGS[file.access], 0o600);
  } catch (cause) {
    if (file.role === "state" || (file.role === "ram" && file.access !== "create"))
      throw unusable(`its ${file.role} file cannot be opened`, cause);
    if (file.role === "kvm") throw new VmmError("vmm_unavailable", "/dev/kvm cannot be opened", { cause });
    throw new VmmError("vmm_control", `the VM's ${file.role} file cannot be opened`, { cause });
  }
}

/**
 * QEMU opens the RAM file once more through its descriptor, with its own rights. A file that many
 * VMs map read-only becomes readable for all; what keeps others out is the directory around it.
 */
async function grant(handle: fs.FileHandle, access: VmFile["access"], jail: VmJail): Promise<void> {
  if (access !== "read") {
    await handle.chown(jail.uid, jail.gid);
    await handle.chmod(0o600);
    return;
  }
  const { mode } = await handle.stat();
  if ((mode & 0o004) === 0) await handle.chmod((mode & 0o777) | 0o004);
}
