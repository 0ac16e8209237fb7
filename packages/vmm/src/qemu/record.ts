/**
 * What a VM's directory holds, so that a later program run finds the VM again:
 *
 * ```
 * vm.json      spec, build, cgroup; written before the process starts
 * process      boot id of the host and the process's line of /proc/PID/stat; written by the
 *              process itself before it becomes QEMU, so that no VM is ever without it
 * started      empty; there once the guest ran: a start that was cut off left a process, not a VM
 * vmm.log      QEMU's own output, bounded
 * console.log  guest console as far as it was read, bounded
 * jail/        QEMU's working directory and the only place it may write: sockets, device state
 * ```
 *
 * Everything in `jail/` is untrusted: a guest that broke out of QEMU could have written it.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import { VmmError } from "../errors.ts";
import type { VmSpec } from "../vmm.ts";

const shape = z.object({ cpus: z.int(), memoryMib: z.int() });

const spec = z.object({
  incarnation: z.string(),
  directory: z.string(),
  shape,
  kernel: z.object({ imagePath: z.string(), initrdPath: z.string(), commandLine: z.string() }),
  disks: z.array(z.object({ serial: z.string(), path: z.string(), readOnly: z.boolean() })),
  nics: z.array(z.object({ mac: z.string(), tap: z.string() })),
  ports: z.array(z.string()),
  memory: z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("fresh"), path: z.string() }),
    z.object({
      kind: z.literal("snapshot"),
      snapshot: z.object({ ramPath: z.string(), ramOffset: z.int().optional(), statePath: z.string(), build: z.string(), shape }),
      mapping: z.enum(["private", "shared"]),
      savePath: z.string().optional(),
      once: z.boolean().optional(),
    }),
  ]),
  jail: z.object({ uid: z.int(), gid: z.int(), netnsPath: z.string() }).optional(),
});

const vmRecord = z.object({
  format: z.literal(1),
  /** `VmmDriver.build` that started it. */
  build: z.string(),
  /** Control groups made for it, outermost last. */
  cgroups: z.array(z.string()),
  spec,
});

/** The content of `vm.json`. */
export interface VmRecord {
  build: string;
  cgroups: readonly string[];
  spec: VmSpec;
}

/** Where the parts of a VM's directory are. */
export interface VmPaths {
  directory: string;
  record: string;
  process: string;
  started: string;
  log: string;
  console: string;
  jail: string;
}

export function vmPaths(directory: string): VmPaths {
  const at = (name: string): string => path.join(directory, name);
  return {
    directory,
    record: at("vm.json"),
    process: at("process"),
    started: at("started"),
    log: at("vmm.log"),
    console: at("console.log"),
    jail: at("jail"),
  };
}

/** Makes the directory of a new VM, which may hold files of the caller. Throws `vmm_control` when it is a VM's already. */
export async function createVmDirectory(paths: VmPaths, jail: VmSpec["jail"]): Promise<void> {
  await fs.mkdir(paths.directory, { recursive: true, mode: 0o700 });
  try {
    await fs.mkdir(paths.jail, { mode: 0o700 });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause;
    throw new VmmError("vmm_control", "the VM's directory is in use already; every VM needs one of its own", { cause });
  }
  if (jail) await fs.chown(paths.jail, jail.uid, jail.gid);
}

export async function writeRecord(paths: VmPaths, record: VmRecord): Promise<void> {
  await fs.writeFile(paths.record, JSON.stringify({ format: 1, ...record }), { mode: 0o600 });
}

/** The record of a directory; undefined when there is none or it cannot be read. */
export async function findRecord(paths: VmPaths): Promise<VmRecord | undefined> {
  const parsed = vmRecord.safeParse(parseJson(await findText(paths.record)));
  return parsed.success ? { build: parsed.data.build, cgroups: parsed.data.cgroups, spec: parsed.data.spec } : undefined;
}

/** Text of a file, undefined when it is not there. */
export async function findText(file: string): Promise<string | undefined> {
  try {
    return await fs.readFile(file, "utf8");
  } catch (error) {
    if (["ENOENT", "ESRCH", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}

function parseJson(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? "");
  } catch {
    return undefined;
  }
}
