/**
 * From what a dead daemon left to a host on which every record is true. The order matters: first
 * what runs, then what depends on it, then what no record names; only then may anything begin.
 */
import type { Logger } from "@sprited/base";
import type { References } from "@sprited/disk";
import type { Checkpoints } from "../checkpoint/index.ts";
import type { Sessions } from "../exec/index.ts";
import type { Jobs } from "../job/index.ts";
import type { BootSnapshots } from "../machine/index.ts";
import type { Pools } from "../pool/index.ts";
import { reclaim } from "../reclaim/index.ts";
import type { GuestLife, SpriteRegistry } from "../sprite/index.ts";
import type { Templates } from "../template/index.ts";
import type { HostParts } from "./parts.ts";

export interface Settled {
  parts: HostParts;
  sprites: SpriteRegistry;
  exec: Sessions;
  jobs: Jobs;
  checkpoints: Checkpoints;
  templates: Templates;
  pools: Pools;
  snapshots: BootSnapshots;
  logger: Logger;
}

/** Everything that a record names, for whoever looks for what none does. */
export async function referencesOf(features: Settled): Promise<Required<References>> {
  const { parts, sprites, checkpoints, templates, snapshots } = features;
  const owners = new Set(sprites.ids());
  const images = await parts.images.list();
  return {
    sprites: owners,
    checkpoints: owners,
    sessions: owners,
    templates: new Set(templates.ids()),
    bootSnapshots: await snapshots.usable(),
    systems: new Set([parts.system.digest, ...sprites.systems(), ...(await checkpoints.systems()), ...(await templates.systems())]),
    // Of each name the newest: sprites have disks of their own.
    images: new Set(new Map(images.map(({ name, digest }) => [name, digest])).values()),
  };
}

export async function settle(features: Settled): Promise<void> {
  const { parts, sprites, exec, jobs, checkpoints, templates, pools, logger } = features;
  const lives = new Map<string, GuestLife>();
  await sprites.recover((spriteId, life) => void lives.set(spriteId, life));
  await checkpoints.recover();
  // A client that comes back at once finds its session.
  await exec.recover(lives, new Set(sprites.ids()));
  await jobs.recover();
  const named = await referencesOf(features);
  await reclaim({
    driver: parts.driver,
    layout: parts.layout,
    incarnations: new Set(sprites.incarnations()),
    spriteIds: named.sprites,
    bootSnapshots: named.bootSnapshots,
    systems: named.systems,
    logger,
  });
  await parts.slots?.settle();
  await templates.recover();
  checkpoints.resumeChecks();
  sprites.startResting();
  pools.recover();
}
