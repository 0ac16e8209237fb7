/**
 * The moments in which a process is still the launch script and not yet the user's command. The
 * script's shell may ignore a signal that the command would end by (busybox's ignores QUIT); sent
 * then, the signal would be lost.
 */
import fs from "node:fs";

/** Whether `pid` still runs the launch `argv` and ignores the signal of that number. */
export function ignoresWhileLaunching(pid: number, argv: readonly string[], signal: number): boolean {
  const launch = Buffer.from(argv.map((word) => `${word}\0`).join(""));
  try {
    if (!readStart(`/proc/${pid}/cmdline`, launch.length).equals(launch)) return false;
    const ignored = /^SigIgn:\s*([0-9a-f]+)$/m.exec(fs.readFileSync(`/proc/${pid}/status`, "latin1"))?.[1];
    return ((BigInt(`0x${ignored ?? "0"}`) >> BigInt(signal - 1)) & 1n) === 1n;
  } catch {
    return false; // it has ended
  }
}

function readStart(file: string, length: number): Buffer {
  const fd = fs.openSync(file, "r");
  try {
    const bytes = Buffer.alloc(length);
    return bytes.subarray(0, fs.readSync(fd, bytes, 0, length, 0));
  } finally {
    fs.closeSync(fd);
  }
}
