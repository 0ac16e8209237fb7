/**
 * Opens the pool: finds what the host offers, decides (plan.ts), does it, and hands out the
 * one object through which disks are cloned. Idempotent: a mounted pool is found again, and after
 * a reboot it is mounted again.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, type Logger } from "@sprited/base";
import { canReflink, cloneFile } from "../clone/clone-file.ts";
import { asDiskError } from "../clone/fs-error.ts";
import { DiskError } from "../errors.ts";
import { isTempName } from "../layout/atomic.ts";
import type { HomeLayout } from "../layout/home.ts";
import { backingFile, createPoolFile, growPool, mountPoolFile } from "./loop.ts";
import { findMount, type Mount, planPool, type PoolFacts, type PoolPlan, usableBytes } from "./plan.ts";
import type { DiskPool } from "./pool.ts";
import { giveBackFile, reserveFile, unreservedBytes } from "./reserve.ts";
import { freeOf, requireFree } from "./space.ts";

export interface OpenPoolOptions {
  layout: HomeLayout;
  /** Size of a pool file, GB; a larger value grows an existing one. */
  poolSizeGb: number;
  /** Free bytes that new work must leave. */
  freeFloorBytes: number;
  isRoot: boolean;
  logger: Logger;
  signal?: AbortSignal | undefined;
}

/** Opens the pool of a home, making it where needed. Throws `disk_pool`, `disk_full`, `disk_io`. */
export async function openDiskPool(options: OpenPoolOptions): Promise<DiskPool> {
  const { layout, logger, signal } = options;
  try {
    await fs.mkdir(layout.pool, { recursive: true });
    const { facts, mount } = await findFacts(options);
    const plan = planPool(facts);
    const cloneKind = await carryOut(plan, layout, mount, signal);
    if (cloneKind === "copy") logger.warn({ event: "pool", reason: plan.reason }, "the pool cannot share blocks");
    for (const directory of [layout.images, layout.bootSnapshots, layout.sprites]) await fs.mkdir(directory, { recursive: true });
    const ownFile = plan.kind !== "use" || facts.poolFileBytes !== undefined;
    return makePool(options, { cloneKind, reason: plan.reason, ownFile });
  } catch (error) {
    throw asDiskError(error, "opening the pool");
  }
}

async function findFacts({ layout, isRoot, poolSizeGb }: OpenPoolOptions): Promise<{ facts: PoolFacts; mount: Mount | undefined }> {
  const pool = await fs.realpath(layout.pool);
  const mount = findMount(await fs.readFile("/proc/self/mountinfo", "utf8"), pool);
  const poolFile = await fs.stat(layout.poolImagePath).catch(ignore("no pool file yet"));
  let mounted: PoolFacts["mounted"] = mount ? "other" : "none";
  if (mount && poolFile && (await backingFile(mount.source)) === (await fs.realpath(layout.poolImagePath))) mounted = "pool-file";
  const names = await fs.readdir(pool);
  return {
    mount,
    facts: {
      isRoot,
      poolSizeGb,
      poolFileBytes: poolFile?.size,
      mounted,
      reflinks: poolFile === undefined && (await canReflink(pool)),
      hasData: mounted === "none" && names.some((name) => !isTempName(name)),
    },
  };
}

async function carryOut(
  plan: PoolPlan,
  layout: HomeLayout,
  mount: Mount | undefined,
  signal: AbortSignal | undefined,
): Promise<DiskPool["cloneKind"]> {
  switch (plan.kind) {
    case "refuse":
      throw new DiskError("disk_pool", plan.reason);
    case "use":
      if (plan.growToBytes !== undefined && mount) await growPool(layout.poolImagePath, mount.source, layout.pool, plan.growToBytes);
      return plan.cloneKind;
    case "create":
      await createPoolFile(layout.poolImagePath, plan.bytes, signal);
      await mountPoolFile(layout.poolImagePath, layout.pool, signal);
      return "reflink";
    case "mount": {
      await mountPoolFile(layout.poolImagePath, layout.pool, signal);
      const now = findMount(await fs.readFile("/proc/self/mountinfo", "utf8"), await fs.realpath(layout.pool));
      if (plan.growToBytes !== undefined && now) await growPool(layout.poolImagePath, now.source, layout.pool, plan.growToBytes);
      return "reflink";
    }
  }
}

function makePool(options: OpenPoolOptions, how: { cloneKind: DiskPool["cloneKind"]; reason: string; ownFile: boolean }): DiskPool {
  const { layout, freeFloorBytes } = options;
  const freeBytes = async (): Promise<number> => {
    try {
      const pool = await freeOf(layout.pool);
      const underneath = how.ownFile ? await freeOf(path.dirname(layout.poolImagePath)) : undefined;
      return usableBytes({ pool, underneath, floor: freeFloorBytes });
    } catch (error) {
      throw asDiskError(error, "asking for free space");
    }
  };
  const requireSpace = async (bytes: number, what: string): Promise<void> =>
    requireFree(await freeBytes(), bytes, { purpose: what, where: layout.root, reserve: freeFloorBytes });
  // A reflink holds what was written and nothing else; a copy would take longer than the room is worth.
  return {
    root: layout.pool,
    cloneKind: how.cloneKind,
    reason: how.reason,
    freeBytes,
    async clone(source, target, { signal, durable } = {}) {
      await cloneFile(source, target, { kind: how.cloneKind, signal, durable });
    },
    requireSpace,
    async reserve(file, what, { signal } = {}) {
      const bytes = await unreservedBytes(file);
      if (bytes === 0) return;
      await requireSpace(bytes, what);
      try {
        await reserveFile(file, what, { signal });
      } catch (error) {
        await giveBackFile(file, what).catch(ignore("the failure before tells more"));
        throw error;
      }
    },
    async giveBack(file, what) {
      if ((await unreservedBytes(file)) === 0) await giveBackFile(file, what);
    },
  };
}
