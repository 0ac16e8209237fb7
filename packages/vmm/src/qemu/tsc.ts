/**
 * The speed of the guest's time stamp counter under TCG.
 *
 * A guest measures it against the emulated timer chip by counting loops, which fails whenever its
 * thread is interrupted: on a busy host always. Our machine has no other early clock, so the kernel
 * then waits for ever. Measured here with interruptions told apart, and given to the kernel.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, type Logger, Scope, sleep } from "@sprited/base";
import { z } from "zod";
import { CONTROL_SOCKET, type QemuProgram } from "./args.ts";
import { QemuControl } from "./control.ts";
import { launch, watchLaunched } from "./process.ts";
import { createVmDirectory, vmPaths } from "./record.ts";

/** Distance between the two groups of readings, ms; readings good to 0.1 ms make an error of some 100 millionths. */
const WINDOW_MS = 1_500;
/** Readings per group, and the pause after each in which QEMU's own thread gets to run, ms. */
const SAMPLES = 24;
const PAUSE_MS = 4;
const MEASURE_TIMEOUT_MS = 30_000;
/** Firmware size that the machine accepts, and the address it starts at. */
const FIRMWARE_BYTES = 65_536;
const RESET_OFFSET = 0xfff0;
/** `again: rdtsc; jmp again` */
const FIRMWARE_CODE = [0x0f, 0x31, 0xeb, 0xfc];

/** One reading: the counter was at `ticks` at that time or earlier. */
export interface TscReading {
  ticks: bigint;
  atMs: number;
}

/**
 * Counter speed from a group of readings before and one after a while, kHz; undefined when they
 * tell nothing. Pure. A reading lags by the time its answer took and whenever the guest's thread
 * was not running, but never leads: the one that lags least tells the truth.
 */
export function tscKhz(first: readonly TscReading[], last: readonly TscReading[]): number | undefined {
  let [from, to] = [first[0], last.at(-1)];
  if (!from || !to || to.atMs <= from.atMs) return undefined;
  const speed = (one: TscReading, other: TscReading): number => Number(other.ticks - one.ticks) / (other.atMs - one.atMs);
  // The second round corrects the choice of the first, which began with a rough speed.
  for (let round = 0; round < 2; round += 1) {
    const khz = speed(from, to);
    if (!(khz > 0)) return undefined;
    const origin = from;
    const lagMs = (reading: TscReading): number => reading.atMs - origin.atMs - Number(reading.ticks - origin.ticks) / khz;
    const leastLag = (group: readonly TscReading[], start: TscReading): TscReading =>
      group.reduce((best, reading) => (lagMs(reading) < lagMs(best) ? reading : best), start);
    [from, to] = [leastLag(first, from), leastLag(last, to)];
  }
  return Math.round(speed(from, to));
}

/** Counter value in QEMU's register dump; undefined when it is not there, or the CPU has not run yet. Pure. */
export function parseTicks(dump: string): bigint | undefined {
  const low = /\b[RE]AX=([0-9a-f]{8,16})\b/.exec(dump)?.[1];
  const high = /\b[RE]DX=([0-9a-f]{8,16})\b/.exec(dump)?.[1];
  // A reset leaves 0 in the low half, and the CPU's model in the high one.
  if (low === undefined || high === undefined || BigInt(`0x${low}`) === 0n) return undefined;
  return (BigInt(`0x${high.slice(-8)}`) << 32n) | BigInt(`0x${low.slice(-8)}`);
}

/**
 * Measures for some two seconds, in a directory of its own that it makes and removes; undefined
 * when the host is too busy to tell. The guest then measures itself.
 */
export async function measureTscKhz(program: QemuProgram, options: { directory: string; logger: Logger }): Promise<number | undefined> {
  await using scope = new Scope("measuring the guest's clock");
  const { directory } = options;
  const paths = vmPaths(directory);
  scope.defer("directory", () => fs.rm(directory, { recursive: true, force: true }));
  await createVmDirectory(paths, undefined);
  const firmware = Buffer.alloc(FIRMWARE_BYTES);
  firmware.set(FIRMWARE_CODE, RESET_OFFSET);
  await fs.writeFile(path.join(paths.jail, "firmware"), firmware);
  await using log = await fs.open(paths.log, "a", 0o600);
  const args = [
    ["-nodefaults", "-no-user-config", "-display", "none", "-machine", "microvm", "-accel", "tcg,tb-size=1", "-cpu", "max", "-m", "16M"],
    ["-bios", "firmware", "-chardev", `socket,id=qmp,path=${CONTROL_SOCKET},server=on,wait=off`, "-mon", "chardev=qmp,mode=control"],
  ].flat();
  const plan = { program: program.path, args, jail: undefined, cgroups: [], identityPath: paths.process, endsWithProgram: true };
  const child = await launch(plan, { directory: paths.jail, log: log.fd, files: [] });
  const signal = AbortSignal.timeout(MEASURE_TIMEOUT_MS);
  const watch = await watchLaunched(child, paths, { signal, scope });
  const control = new QemuControl(path.join(paths.jail, CONTROL_SOCKET), () => watch.expectEnd());
  scope.defer("control session", () => control.close());
  const first = await read(control, signal);
  await sleep(WINDOW_MS, { signal });
  const last = await read(control, signal);
  await watch.kill().catch(ignore("the scope kills it too"));
  const khz = tscKhz(first, last);
  options.logger.debug({ event: "vmm.tsc", khz }, "measured the guest's clock");
  return khz;
}

async function read(control: QemuControl, signal: AbortSignal): Promise<TscReading[]> {
  const readings: TscReading[] = [];
  for (let sample = 0; sample < SAMPLES; sample += 1) {
    const dump = z.string().parse(await control.execute("human-monitor-command", { "command-line": "info registers" }, { signal }));
    const ticks = parseTicks(dump);
    if (ticks !== undefined) readings.push({ ticks, atMs: performance.now() });
    await sleep(PAUSE_MS, { signal });
  }
  return readings;
}
