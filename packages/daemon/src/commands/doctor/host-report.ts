import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { ignore, silentLogger } from "@sprited/base";
import {
  findQemu,
  homeLayout,
  type ImageRecord,
  type ImageVerdict,
  loadSystem,
  openDiskPool,
  openImageStore,
  verifyImage,
} from "@sprited/disk";
import { ApiClient } from "@sprited/protocol/client";
import { inspectNetwork, networkSupport, readNetworkFacts } from "@sprited/vmm";
import { z } from "zod";
import type { Config } from "../../config/index.ts";
import { findHolder, lockHome, LockedError } from "../../lock.ts";
import { findProgram, freeBytesAt, IMAGE_DEFINITIONS, inspectPackages, networkOptions } from "../../setup/index.ts";
import { urlOf } from "../api.ts";
import { requirePortFree } from "../port.ts";
import type { HostReport } from "./checks.ts";

/**
 * Looks at the host for the doctor. Changes nothing; what cannot be found out counts as missing.
 */

/** How long a daemon may take to say that it is ours, `ms`. */
const HEALTH_TIMEOUT_MS = 3_000;

/** What is read of the accelerator's cached verdict. */
const verdictSchema = z.object({ kind: z.string(), reason: z.string() });

/** Gathers everything the doctor judges. `readImages`: every image is read in full, which takes some ten seconds each. */
export async function inspectHost(config: Config, options: { readImages: boolean }): Promise<HostReport> {
  const layout = homeLayout(config.home);
  const packages = inspectPackages();
  const daemon = existsSync(layout.lockPath) ? holderOf(layout.lockPath) : undefined;
  const system = await loadSystem(layout).catch(ignore("reported as not built"));
  const [qemu, disks, port, network, freeBytes] = await Promise.all([
    findQemu(layout).catch(ignore("reported as not found")),
    inspectDisks(config, options),
    inspectPort(config),
    inspectNetworkOf(config),
    freeBytesAt(config.home),
  ]);
  return {
    platform: process.platform,
    arch: process.arch,
    kernel: os.release(),
    nodeVersion: process.version,
    uid: process.getuid?.() ?? 0,
    hasSudo: findProgram("sudo") !== undefined,
    home: config.home,
    missingPackages: packages.kind === "complete" ? [] : packages.packages.map((one) => one.name),
    qemu,
    accelerator: await findAccelerator(config, path.join(layout.runtime, "accelerator.json")),
    systemDigest: system?.digest,
    images: disks.images,
    imageVerdicts: disks.verdicts,
    defaultImage: config.sprite.image,
    pool: disks.pool,
    freeBytes,
    floorBytes: config.disk.freeFloorGb * 2 ** 30,
    listen: config.listen,
    port,
    daemon,
    controlGroups: controlGroups(),
    networkMissing: network.missing,
    networkProblems: network.problems,
    memoryMb: Math.floor(os.totalmem() / 2 ** 20),
    spriteMemoryMb: config.sprite.memoryMb,
  };
}

/** What the settings say, else what the last probe boot on this home found. */
async function findAccelerator(config: Config, verdictPath: string): Promise<HostReport["accelerator"]> {
  if (config.vmm.accelerator !== "auto") return { kind: config.vmm.accelerator, reason: "set by vmm.accelerator" };
  const text = await readFile(verdictPath, "utf8").catch(ignore("reported as not tried"));
  return text === undefined ? undefined : verdictSchema.safeParse(parseJson(text)).data;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Cut short by a crash: as if it were not there.
    return undefined;
  }
}

/** Who holds the home; undefined when the note beside the lock is outdated. */
function holderOf(lockPath: string): { pid: number; url: string | undefined } | undefined {
  const holder = findHolder(lockPath);
  try {
    lockHome(lockPath, "doctor").release();
    return undefined;
  } catch (error) {
    if (!(error instanceof LockedError)) return undefined;
    return { pid: holder?.pid ?? 0, url: holder?.url };
  }
}

async function inspectDisks(
  config: Config,
  options: { readImages: boolean },
): Promise<{ pool: HostReport["pool"]; images: string[]; verdicts?: HostReport["imageVerdicts"] }> {
  const layout = homeLayout(config.home);
  // Opening makes a pool; the doctor only looks at one that is there.
  if (!existsSync(layout.pool)) return { pool: undefined, images: [] };
  const isRoot = process.getuid?.() === 0;
  const pool = await openDiskPool({
    layout,
    poolSizeGb: 1,
    freeFloorBytes: 0,
    isRoot: isRoot && existsSync(layout.poolImagePath),
    logger: silentLogger,
  }).catch(ignore("reported as not made"));
  if (!pool) return { pool: undefined, images: [] };
  const { mirror, securityMirror } = config.disk;
  const store = openImageStore({ layout, pool, definitions: IMAGE_DEFINITIONS, mirror, securityMirror, isRoot, logger: silentLogger });
  const images = (await store.list().catch(ignore("reported as not built"))) ?? [];
  const verdicts = options.readImages ? await readInTurn(images) : undefined;
  return { pool, images: [...new Set(images.map((image) => image.name))], verdicts };
}

/** One after another: reading an image takes all that a disk gives. */
async function readInTurn(images: readonly ImageRecord[]): Promise<ImageVerdict[]> {
  const verdicts: ImageVerdict[] = [];
  for (const image of images) verdicts.push(await verifyImage(image));
  return verdicts;
}

async function inspectPort(config: Config): Promise<HostReport["port"]> {
  try {
    await requirePortFree(config.listen);
    return "free";
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") return "cannot be used";
  }
  const client = new ApiClient({ baseUrl: urlOf(config.listen) });
  const answer = await client.call("health", {}, { timeoutMs: HEALTH_TIMEOUT_MS }).catch(ignore("not ours, then"));
  return answer ? "our daemon" : "another program";
}

async function inspectNetworkOf(config: Config): Promise<{ missing: string | undefined; problems: HostReport["networkProblems"] }> {
  const missing = networkSupport(await readNetworkFacts());
  if (missing !== undefined) return { missing, problems: [] };
  try {
    return { missing: undefined, problems: await inspectNetwork(networkOptions(config)) };
  } catch (error) {
    const message = `The host's firewall cannot be read${error instanceof Error ? ` (${error.message})` : ""}.`;
    return { missing: undefined, problems: [{ message, fix: "Run nft list ruleset and correct what it says." }] };
  }
}

function controlGroups(): HostReport["controlGroups"] {
  if (existsSync("/sys/fs/cgroup/cgroup.controllers")) return "v2";
  return existsSync("/sys/fs/cgroup/memory") ? "v1" : "none";
}
