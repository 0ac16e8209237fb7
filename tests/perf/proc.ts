/** CPU time and memory of processes, from /proc. */
import fs from "node:fs/promises";
import { sleep } from "@sprited/base";

/** Clock ticks a second in /proc/pid/stat; fixed on Linux for x86-64. */
const TICKS_PER_SECOND = 100;

/** User and system time of a process with its threads, s. */
export async function cpuSeconds(pid: number): Promise<number> {
  const stat = await fs.readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Share of one core a process uses over `ms`, in per cent. */
export async function cpuPercent(pid: number, ms: number): Promise<number> {
  const startedMs = performance.now();
  const before = await cpuSeconds(pid);
  await sleep(ms);
  const seconds = (performance.now() - startedMs) / 1000;
  return (((await cpuSeconds(pid)) - before) / seconds) * 100;
}

/** Proportional share of memory: shared pages count by how many map them, MB. */
export async function pssMb(pid: number): Promise<number> {
  return (await field(`/proc/${pid}/smaps_rollup`, "Pss")) / 1000;
}

/** Resident memory, MB. */
export async function rssMb(pid: number): Promise<number> {
  return (await field(`/proc/${pid}/status`, "VmRSS")) / 1000;
}

async function field(file: string, name: string): Promise<number> {
  const text = await fs.readFile(file, "utf8");
  const match = new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text);
  if (!match) throw new Error(`${file} has no ${name}`);
  return Number(match[1]) * 1.024;
}
