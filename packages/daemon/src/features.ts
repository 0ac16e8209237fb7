/**
 * The features, put together over whatever machines, disks and store they are given: the real
 * host's or simulated ones. Nothing here opens a device.
 */
import { ignore, type Logger, sleep, systemClock } from "@sprited/base";
import type { DiskPool, HomeLayout, ImageStore, SystemImage } from "@sprited/disk";
import type { OpenNetworkSlots, VmmDriver } from "@sprited/vmm";
import { Sessions } from "./exec/index.ts";
import { type BootSnapshots, openBootSnapshots, openMachines } from "./machine/index.ts";
import { ensureFirstToken, Organizations } from "./organization/index.ts";
import { reclaim } from "./reclaim/index.ts";
import { lifeOfMachine, type SpriteDefaults, type SpriteLimits, SpriteRegistry } from "./sprite/index.ts";
import { openDatabase, spriteRecords } from "./store/index.ts";
import type { SpriteState } from "./sprite/index.ts";

/** How long a start waits for running guests to name their sessions, ms. */
const ADOPTION_WAIT_MS = 10_000;

/** What the host gives. */
export interface HostParts {
  layout: HomeLayout;
  driver: VmmDriver;
  /** Undefined where the host has no taps. */
  slots: OpenNetworkSlots | undefined;
  pool: DiskPool;
  images: ImageStore;
  system: SystemImage;
}

export interface FeatureSettings {
  defaults: SpriteDefaults;
  limits: SpriteLimits;
  timeouts: { bootMs: number; resumeMs: number; guestCallMs: number; stopMs: number };
}

export interface Features {
  sprites: SpriteRegistry;
  exec: Sessions;
  organizations: Organizations;
  snapshots: BootSnapshots;
  /** Settles everything an earlier daemon left; call once, before requests are answered. */
  recover(): Promise<void>;
  /** Closes the store. VMs run on. */
  close(): Promise<void>;
}

export async function composeFeatures(parts: HostParts, settings: FeatureSettings, options: { logger: Logger }): Promise<Features> {
  const { layout, driver, slots, pool } = parts;
  const { logger } = options;
  const database = openDatabase(layout.databasePath);
  const organizations = new Organizations({ database, clock: systemClock, logger });
  await ensureFirstToken(organizations, layout.tokenPath);
  const snapshots = openBootSnapshots({
    driver,
    slots,
    pool,
    system: parts.system,
    directory: layout.bootSnapshots,
    runDirectory: layout.run,
    bootTimeoutMs: settings.timeouts.bootMs,
    logger,
  });
  const machines = openMachines({
    driver,
    slots,
    snapshots,
    runDirectory: layout.run,
    startTimeoutMs: settings.timeouts.resumeMs,
    linkTimeoutMs: settings.timeouts.guestCallMs,
    logger,
  });
  const sprites = new SpriteRegistry({
    records: spriteRecords<SpriteState>(database),
    machines,
    images: parts.images,
    pool,
    spritesDirectory: layout.sprites,
    defaults: settings.defaults,
    limits: settings.limits,
    stopGraceMs: settings.timeouts.stopMs,
    organizationSlug: (id) => organizations.slugOf(id),
    logger,
  });
  const exec = new Sessions({ sprites, logger });
  return {
    sprites,
    exec,
    organizations,
    snapshots,
    async recover() {
      const adoptions: Promise<unknown>[] = [];
      await sprites.recover((spriteId, machine) => {
        adoptions.push(
          exec.adopt(spriteId, lifeOfMachine(machine)).catch(ignore("an agent that does not answer shows at the next request")),
        );
      });
      // A client that comes back at once finds its session; an agent that is slow holds nobody up for long.
      await Promise.race([Promise.all(adoptions), sleep(ADOPTION_WAIT_MS, { ref: false })]);
      await reclaim({
        driver,
        layout,
        incarnations: new Set(sprites.incarnations()),
        spriteIds: new Set(sprites.ids()),
        bootSnapshots: await snapshots.usable(),
        systemDigest: parts.system.digest,
        logger,
      });
      await slots?.settle();
    },
    async close() {
      await sprites.close();
      organizations.close();
      database[Symbol.dispose]();
    },
  };
}
