/** The daemon's own process, without the VMs: those are no children of it. */
import type { Instruments } from "./instruments.ts";

/** Returns what takes the numbers of now over. */
export function processMetrics(instruments: Instruments): (program: { version: string }) => void {
  const build = instruments.gauge("sprited_build_info", "What runs: always 1", ["version", "node"]);
  const cpu = instruments.counter("process_cpu_seconds_total", "CPU time of the daemon, user and system", []);
  const memory = instruments.gauge("process_resident_memory_bytes", "Resident memory of the daemon", []);
  const start = instruments.gauge("process_start_time_seconds", "When the daemon started, seconds since the epoch", []);
  return ({ version }) => {
    build.set({ version, node: process.versions.node }, 1);
    const { user, system } = process.cpuUsage();
    cpu.reset();
    cpu.inc((user + system) / 1e6);
    memory.set(process.memoryUsage.rss());
    start.set(performance.timeOrigin / 1000);
  };
}
