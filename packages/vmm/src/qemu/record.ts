/**
 * What a VM's directory remembers of its process: enough to find it again after the program
 * that started it died, and never to mistake another process for it. A pid alone is not enough
 * (they are reused); pid and start time are.
 */
import fs from "node:fs/promises";
import { z } from "zod";
import type { VmSpec } from "../vmm.ts";
import { vmPaths } from "./args.ts";

export interface ProcessIdentity {
  pid: number;
  /** Field 22 of `/proc/PID/stat`: ticks since boot. */
  startTicks: string;
  /** Boot of the host the ticks belong to. */
  hostBoot: string;
}

export interface VmRecord {
  identity: ProcessIdentity;
  spec: VmSpec;
  cgroups: string[];
}

const shape = z.object({ cpus: z.int(), memoryMib: z.int() });
const memorySnapshot = z.object({ ramPath: z.string(), statePath: z.string(), build: z.string(), shape });
const vmRecord = z.object({
  identity: z.object({ pid: z.int().positive(), startTicks: z.string(), hostBoot: z.string() }),
  cgroups: z.array(z.string()),
  spec: z.object({
    incarnation: z.string(),
    directory: z.string(),
    shape,
    kernel: z.object({ imagePath: z.string(), initrdPath: z.string(), commandLine: z.string() }),
    disks: z.array(z.object({ serial: z.string(), path: z.string(), readOnly: z.boolean() })),
    nics: z.array(z.object({ mac: z.string(), tap: z.string() })),
    ports: z.array(z.string()),
    memory: z.discriminatedUnion("kind", [
      z.object({ kind: z.literal("fresh"), path: z.string() }),
      z.object({ kind: z.literal("snapshot"), snapshot: memorySnapshot, mapping: z.enum(["private", "shared"]) }),
    ]),
    jail: z.object({ uid: z.int(), gid: z.int(), netnsPath: z.string() }).optional(),
  }),
});

/** Reads the record of a directory; undefined when there is none or it is not whole. */
export async function readRecord(directory: string): Promise<VmRecord | undefined> {
  try {
    const parsed = vmRecord.safeParse(JSON.parse(await fs.readFile(vmPaths(directory).record, "utf8")));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}

/** Writes it whole or not at all. */
export async function writeRecord(directory: string, record: VmRecord): Promise<void> {
  const { record: target } = vmPaths(directory);
  await fs.writeFile(`${target}.new`, JSON.stringify(record), { mode: 0o600 });
  await fs.rename(`${target}.new`, target);
}

/** Field 22 of `/proc/PID/stat`. The program's name in field 2 may contain anything, even brackets. */
export function startTicksOf(stat: string): string | undefined {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[19];
}

/** State letter of `/proc/PID/stat`. */
function stateOf(stat: string): string | undefined {
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[0];
}

/** The identity of a live process; undefined when there is none of that pid. */
export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  try {
    const [stat, hostBoot] = await Promise.all([fs.readFile(`/proc/${pid}/stat`, "utf8"), bootId()]);
    const startTicks = startTicksOf(stat);
    return startTicks === undefined || stateOf(stat) === "Z" ? undefined : { pid, startTicks, hostBoot };
  } catch {
    return undefined;
  }
}

/** Whether that very process still lives; a zombie does not. */
export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  const now = await identify(identity.pid);
  return now !== undefined && now.startTicks === identity.startTicks && now.hostBoot === identity.hostBoot;
}

async function bootId(): Promise<string> {
  return (await fs.readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
}
