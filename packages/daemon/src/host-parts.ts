/**
 * Opens what this host gives: disk pool, images, VMM with its accelerator, network slots. Every
 * weaker way that is taken is named once, as a sentence for people.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { type Logger, run, sleep } from "@sprited/base";
import {
  DiskError,
  type HomeLayout,
  homeLayout,
  openDiskPool,
  openImageStore,
  findQemu,
  loadSystem,
  type Qemu,
  type SystemImage,
} from "@sprited/disk";
import { BOOT_PORT } from "@sprited/protocol/guest";
import {
  networkSupport,
  openNetworkSlots,
  openQemuDriver,
  type OpenNetworkSlots,
  readNetworkFacts,
  resolveAccelerator,
  VmmError,
  type VmmDriver,
  type VmSpec,
} from "@sprited/vmm";
import type { Config } from "./config/index.ts";
import type { HostParts } from "./compose/index.ts";
import { awaitIdle } from "./guest/index.ts";
import { vmSpec } from "./machine/index.ts";
import { IMAGE_DEFINITIONS, networkOptions } from "./setup/index.ts";

const GIB = 1_073_741_824;
/** Form of the accelerator probe's VM. */
const PROBE_MEMORY_MIB = 512;
const PROBE_DISK_BYTES = 64 * 1024 * 1024;
/** How often the host's network rules are looked after, ms. */
const RULES_EVERY_MS = 60_000;

export interface OpenedHost {
  parts: HostParts;
  /** What this host lacks, a sentence each. */
  limitations: string[];
  /** Gives back what no VM holds. */
  close(): Promise<void>;
}

export async function openHost(config: Config, options: { logger: Logger; signal?: AbortSignal | undefined }): Promise<OpenedHost> {
  const { logger, signal } = options;
  const layout = homeLayout(config.home);
  const isRoot = process.getuid?.() === 0;
  const limitations: string[] = [];
  const pool = await openDiskPool({
    layout,
    poolSizeGb: config.disk.poolSizeGb,
    freeFloorBytes: config.disk.freeFloorGb * GIB,
    isRoot,
    logger,
    signal,
  });
  await openWay(layout);
  if (pool.cloneKind === "copy") limitations.push(pool.reason);
  const images = openImageStore({
    layout,
    pool,
    definitions: IMAGE_DEFINITIONS,
    mirror: config.disk.mirror,
    securityMirror: config.disk.securityMirror,
    isRoot,
    logger,
  });
  const system = await loadSystem(layout);
  if (!system) throw new DiskError("disk_image_unknown", "the system image is not built yet; run `npx sprited setup`");
  const driver = await openDriver(config, system, { logger, signal });
  if (driver.accelerator.kind === "tcg")
    limitations.push(`Guests run under emulation, many times slower than with KVM: ${driver.accelerator.reason}`);
  const noNetwork = networkSupport(await readNetworkFacts());
  const slots = noNetwork === undefined ? await openNetworkSlots({ ...networkOptions(config), log: logger }) : undefined;
  if (noNetwork !== undefined) limitations.push(`Sprites have no network: ${noNetwork}`);
  limitations.push(...(slots?.problems.map((problem) => problem.message) ?? []));
  const keeping = new AbortController();
  if (slots) void keepRules(slots, { logger, signal: keeping.signal });
  return {
    parts: { layout, driver, slots, pool, images, system },
    limitations,
    async close() {
      keeping.abort();
      await driver.close();
      await slots?.close();
    },
  };
}

/** VMM processes of other users pass through these directories to files they own; none may list them. */
async function openWay(layout: HomeLayout): Promise<void> {
  for (const directory of [layout.root, layout.run, layout.pool, layout.images, layout.bootSnapshots, layout.sprites, layout.checkpoints]) {
    await fs.mkdir(directory, { recursive: true });
    await fs.chmod(directory, 0o711);
  }
}

/** Puts the host's network rules back whenever another program flushed them. */
async function keepRules(slots: OpenNetworkSlots, options: { logger: Logger; signal: AbortSignal }): Promise<void> {
  for (;;) {
    try {
      await sleep(RULES_EVERY_MS, { signal: options.signal });
      await slots.refresh();
    } catch (error) {
      if (options.signal.aborted) return;
      options.logger.warn({ event: "network.refresh", outcome: "failed", err: error }, "the host's network rules could not be checked");
    }
  }
}

/** The QEMU driver with the accelerator the settings ask for, or that a probe boot proved. */
async function openDriver(
  config: Config,
  system: SystemImage,
  options: { logger: Logger; signal: AbortSignal | undefined },
): Promise<VmmDriver> {
  const { logger, signal } = options;
  const layout = homeLayout(config.home);
  const qemu = config.vmm.qemuPath === "" ? await findQemu(layout) : await qemuAt(config.vmm.qemuPath);
  if (!qemu) throw new VmmError("vmm_unavailable", "QEMU is not installed; run `npx sprited setup`, or set vmm.qemu_path");
  const program = { path: qemu.programPath, dataPaths: qemu.dataPaths };
  const accelerator = await resolveAccelerator({
    wanted: config.vmm.accelerator,
    program,
    version: qemu.version,
    cachePath: path.join(layout.runtime, "accelerator.json"),
    probeSpec: async () => await probeSpec(layout, system),
    async awaitGuest(vm, call) {
      await awaitIdle({ openBootPort: (open) => vm.openPort(BOOT_PORT, open) }, call);
    },
    logger,
    signal,
  });
  return await openQemuDriver({ program, version: qemu.version, accelerator, tbSizeMib: config.vmm.tbSizeMb, logger });
}

/** The program of the settings. Throws when it does not run. */
async function qemuAt(programPath: string): Promise<Pick<Qemu, "programPath" | "dataPaths" | "version">> {
  try {
    const { stdout } = await run(programPath, ["--version"]);
    return { programPath, dataPaths: [], version: stdout.split("\n", 1)[0] ?? "" };
  } catch (cause) {
    throw new VmmError("vmm_unavailable", "the program of vmm.qemu_path does not run; correct the setting or leave it out", { cause });
  }
}

/** The smallest real VM: no network, an empty disk, memory in a file that goes with its directory. */
async function probeSpec(layout: HomeLayout, system: SystemImage): Promise<VmSpec> {
  const incarnation = `probe${randomBytes(4).toString("hex")}`;
  const directory = path.join(layout.run, incarnation);
  await fs.mkdir(directory, { recursive: true, mode: 0o700 });
  const diskPath = path.join(directory, "disk.raw");
  await using disk = await fs.open(diskPath, "w", 0o600);
  await disk.truncate(PROBE_DISK_BYTES);
  const memory = { kind: "fresh", path: path.join(directory, "ram") } as const;
  return vmSpec({ incarnation, directory, shape: { cpus: 1, memoryMib: PROBE_MEMORY_MIB }, system, diskPath, slot: undefined, memory });
}
