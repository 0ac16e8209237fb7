import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import os from "node:os";
import { ignore, type Logger } from "@sprited/base";
import {
  type DiskPool,
  findQemu,
  homeLayout,
  loadSystem,
  type OnProgress,
  openDiskPool,
  openImageStore,
  provisionRuntime,
} from "@sprited/disk";
import type { Config } from "../config/index.ts";
import { installPackages } from "./apt.ts";
import { SetupError } from "./errors.ts";
import { describePackages, type PackagePlan, planPackages } from "./packages.ts";
import { AGENT_BUNDLE, GUEST_OVERLAY, IMAGE_DEFINITIONS } from "./repository.ts";
import { SPACE_NEEDS, type SpaceNeed } from "./space.ts";
import type { SetupStep } from "./steps.ts";

/**
 * The steps from a bare host to one that can start VMs, bound to what really does them.
 */

export interface HostStepsOptions {
  config: Config;
  /** Base images to build. */
  images: readonly string[];
  logger: Logger;
  /** A line of its own on the screen. */
  say: (line: string) => void;
  /** Makes the boot snapshot; needs everything before it. */
  makeBootSnapshot: (onProgress: OnProgress, signal: AbortSignal | undefined) => Promise<void>;
}

/** What packages this host lacks. */
export function inspectPackages(): PackagePlan {
  return planPackages({
    exists: existsSync,
    osRelease: existsSync("/etc/os-release") ? readFileSync("/etc/os-release", "utf8") : "",
  });
}

/** All steps in their order. */
export function hostSteps(options: HostStepsOptions): SetupStep[] {
  const { config, logger } = options;
  const layout = homeLayout(config.home);
  const isRoot = process.getuid?.() === 0;
  let pool: DiskPool | undefined;
  const usePool = async (signal: AbortSignal | undefined): Promise<DiskPool> => {
    pool ??= await openDiskPool({
      layout,
      poolSizeGb: config.disk.poolSizeGb,
      freeFloorBytes: config.disk.freeFloorGb * 1_073_741_824,
      isRoot,
      logger,
      signal,
    });
    return pool;
  };
  return [
    {
      id: "packages",
      title: "system packages",
      need: inspectPackages().kind === "complete" ? undefined : "packages",
      run: async (onProgress, signal) => addPackages(options, { isRoot, onProgress, signal }),
    },
    { id: "pool", title: "disk pool", run: async (_onProgress, signal) => void (await usePool(signal)) },
    {
      id: "system",
      title: "kernel, QEMU and system image",
      need: "system",
      run: async (onProgress, signal) => {
        await provisionRuntime({
          layout,
          agentBundle: AGENT_BUNDLE,
          overlayDir: GUEST_OVERLAY,
          mirror: config.disk.mirror,
          securityMirror: config.disk.securityMirror,
          onProgress,
          signal,
        });
      },
    },
    ...options.images.map((name): SetupStep => ({
      id: `image:${name}`,
      title: `base image: ${name}`,
      need: imageNeed(name),
      run: async (onProgress, signal) => {
        const { mirror, securityMirror } = config.disk;
        const images = openImageStore({
          layout,
          pool: await usePool(signal),
          definitions: IMAGE_DEFINITIONS,
          mirror,
          securityMirror,
          isRoot,
          logger,
        });
        // An image that is there is used as it is: a newer definition is built on request, not by a start.
        const image = (await images.find(name)) ?? (await images.build(name, { onProgress, ...(signal ? { signal } : {}) }));
        if (name === config.sprite.image) await images.disk(image, config.sprite.storageGb);
      },
    })),
    {
      id: "snapshot",
      title: "boot snapshot",
      need: "snapshot",
      fingerprint: async () => snapshotFingerprint(config),
      run: options.makeBootSnapshot,
    },
  ];
}

/**
 * What the boot snapshot depends on, and which ones there are. A snapshot that does not fit in spite
 * of it is made anew by the first sprite that needs it.
 */
async function snapshotFingerprint(config: Config): Promise<string> {
  const layout = homeLayout(config.home);
  const system = await loadSystem(layout);
  const qemu = await findQemu(layout);
  const made = await readdir(layout.bootSnapshots).catch(ignore("none yet"));
  const parts = [system?.digest, qemu?.version, os.release(), config.vmm, config.sprite, process.getuid?.(), [...(made ?? [])].sort()];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

function imageNeed(name: string): SpaceNeed {
  const need = `image:${name}`;
  return need in SPACE_NEEDS ? (need as SpaceNeed) : "image:default";
}

async function addPackages(
  options: HostStepsOptions,
  how: { isRoot: boolean; onProgress: OnProgress; signal: AbortSignal | undefined },
): Promise<void> {
  const plan = inspectPackages();
  if (plan.kind === "complete") return;
  const names = plan.packages.map((one) => one.name);
  if (plan.kind === "unknown_distribution") {
    throw new SetupError(
      "unknown_distribution",
      `This is ${plan.distribution}; packages can be installed here only by hand. What is missing has these names on Debian: ${names.join(", ")}.`,
    );
  }
  if (!how.isRoot) {
    throw new SetupError(
      "not_root",
      `These system packages are missing and installing them needs root: ${names.join(" ")}. As root: apt install ${names.join(" ")}`,
    );
  }
  options.say("These packages of your distribution are needed and will be installed now:");
  for (const line of describePackages(plan.packages)) options.say(line);
  await installPackages(names, { onProgress: how.onProgress, signal: how.signal });
  const after = inspectPackages();
  if (after.kind === "complete") return;
  const still = after.packages.map((one) => one.name).join(", ");
  throw new SetupError("packages_failed", `apt-get ended well, but these are still not complete: ${still}.`);
}
