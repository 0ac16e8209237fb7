/**
 * The features, put together over whatever machines, disks and store they are given: the real
 * host's or simulated ones. Nothing here opens a device.
 */
import path from "node:path";
import { ignore, type Logger, systemClock } from "@sprited/base";
import {
  checkGuestDisk,
  type DiskPool,
  type DiskVerdict,
  type HomeLayout,
  type ImageStore,
  loadSystemByDigest,
  type SystemImage,
} from "@sprited/disk";
import { isolatedSlots, type NetworkSlots, type OpenNetworkSlots, type VmmDriver } from "@sprited/vmm";
import type { Archives } from "./archive/index.ts";
import type { Checkpoints } from "./checkpoint/index.ts";
import { CHECKPOINT_DEFAULTS, type CheckpointSettings, composeCheckpoints } from "./compose-checkpoints.ts";
import { composePools } from "./compose-pools.ts";
import { type ExecSettings, Sessions } from "./exec/index.ts";
import { Jobs, type JobSettings } from "./job/index.ts";
import { Files } from "./files/index.ts";
import type { Forks } from "./fork/index.ts";
import { type BootSnapshots, type MachinesOptions, openBootSnapshots, openMachines } from "./machine/index.ts";
import { allocatedGb, ensureFirstToken, Organizations, Quotas } from "./organization/index.ts";
import type { Pools } from "./pool/index.ts";
import { PortWatches, Proxies } from "./ports/index.ts";
import { GarbageCollection, reclaim } from "./reclaim/index.ts";
import { type RestSettings, type SpriteDefaults, type SpriteLimits, SpriteRegistry } from "./sprite/index.ts";
import { jobRecords, openDatabase, sessionRecords, spriteRecords } from "./store/index.ts";
import type { GuestLife, SpriteState } from "./sprite/index.ts";
import type { Templates } from "./template/index.ts";

/** What the host gives. */
export interface HostParts {
  layout: HomeLayout;
  driver: VmmDriver;
  /** Undefined where the host has no taps. */
  slots: OpenNetworkSlots | undefined;
  pool: DiskPool;
  images: ImageStore;
  system: SystemImage;
  /** Slots whose VMs reach no network; the real ones when left out. */
  isolate?: ((slots: NetworkSlots) => NetworkSlots) | undefined;
  /** Checks the file system of a throwaway clone; the real check when left out. */
  checkDisk?: ((file: string, options: { signal: AbortSignal }) => Promise<DiskVerdict>) | undefined;
}

export interface FeatureSettings {
  defaults: SpriteDefaults;
  limits: SpriteLimits;
  rest?: RestSettings;
  checkpoints?: CheckpointSettings;
  exec?: Omit<ExecSettings, "logDirectory">;
  jobs?: JobSettings;
  timeouts: { bootMs: number; resumeMs: number; guestCallMs: number; stopMs: number };
}

const JOB_DEFAULTS: JobSettings = { retentionMs: undefined, keptPerSprite: 200, webhookPrivate: false };
const EXEC_DEFAULTS: Omit<ExecSettings, "logDirectory"> = {
  logBytesMax: 64 * 1024 * 1024,
  retention: { countMax: 100, ageMsMax: 7 * 86_400_000, bytesMax: 256 * 1024 * 1024 },
};

export interface Features {
  sprites: SpriteRegistry;
  exec: Sessions;
  files: Files;
  jobs: Jobs;
  checkpoints: Checkpoints;
  forks: Forks;
  archives: Archives;
  /** Files in checkpoints; see `readerName`. */
  checkpointFiles: Files;
  templates: Templates;
  pools: Pools;
  proxies: Proxies;
  ports: PortWatches;
  organizations: Organizations;
  quotas: Quotas;
  garbage: GarbageCollection;
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
  const quotas = new Quotas(database);
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
  const machineOptions: MachinesOptions = {
    driver,
    slots,
    snapshots,
    pool,
    findSystem: async (digest) =>
      digest === parts.system.digest
        ? parts.system
        : await loadSystemByDigest(layout, digest).catch(ignore("gone: memories that need it cannot be resumed")),
    runDirectory: layout.run,
    startTimeoutMs: settings.timeouts.resumeMs,
    linkTimeoutMs: settings.timeouts.guestCallMs,
    logger,
  };
  const machines = openMachines(machineOptions);
  const requireDisk = async (organizationId: string): Promise<void> => {
    if (quotas.of(organizationId).diskGb === undefined) return;
    const owners = { spriteIds: sprites.idsOf(organizationId), templateIds: templates.idsOf(organizationId) };
    quotas.require(organizationId, "diskGb", await allocatedGb(layout, owners), 0);
  };
  const sprites = new SpriteRegistry({
    records: spriteRecords<SpriteState>(database),
    machines,
    images: parts.images,
    pool,
    spritesDirectory: layout.sprites,
    defaults: settings.defaults,
    limits: settings.limits,
    rest: settings.rest,
    quotas: {
      async requireSprite(organizationId, present) {
        quotas.require(organizationId, "sprites", present);
        await requireDisk(organizationId);
      },
      requireRunning: (organizationId, present) => quotas.require(organizationId, "running", present),
    },
    stopGraceMs: settings.timeouts.stopMs,
    organizationSlug: (id) => organizations.slugOf(id),
    logger,
  });
  const exec = new Sessions({
    sprites,
    records: sessionRecords(database),
    settings: { logDirectory: layout.sessions, ...(settings.exec ?? EXEC_DEFAULTS) },
    logger,
  });
  const jobs = new Jobs({ records: jobRecords(database), sprites, exec, settings: settings.jobs ?? JOB_DEFAULTS, nowMs: Date.now, logger });
  const {
    checkpoints,
    forks,
    archives,
    checkpointFiles,
    close: closeCheckpoints,
  } = composeCheckpoints({
    layout,
    pool,
    vmmBuild: driver.build,
    isolatedMachines: openMachines({ ...machineOptions, slots: slots && (parts.isolate ?? isolatedSlots)(slots) }),
    checkDisk: parts.checkDisk,
    settings: settings.checkpoints ?? CHECKPOINT_DEFAULTS,
    database,
    sprites,
    async admit(organizationId, present) {
      quotas.require(organizationId, "checkpoints", present);
      await requireDisk(organizationId);
    },
    logger,
  });
  const { templates, pools } = composePools({
    layout,
    pool,
    database,
    sprites,
    checkpoints,
    exec,
    vmmBuild: driver.build,
    organizationSlug: (id) => organizations.slugOf(id),
    logger,
  });
  /** Everything that a record names, for whoever looks for what none does. */
  const references = async () => {
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
  };
  return {
    sprites,
    exec,
    files: new Files(sprites),
    jobs,
    checkpoints,
    forks,
    archives,
    checkpointFiles,
    templates,
    pools,
    proxies: new Proxies({ exec, sprites }),
    ports: new PortWatches({ sprites, logger }),
    organizations,
    quotas,
    garbage: new GarbageCollection({ layout, references }),
    snapshots,
    async recover() {
      const lives = new Map<string, GuestLife>();
      await sprites.recover((spriteId, life) => void lives.set(spriteId, life));
      await checkpoints.recover();
      // A client that comes back at once finds its session.
      await exec.recover(lives, new Set(sprites.ids()));
      await jobs.recover();
      const named = await references();
      await reclaim({
        driver,
        layout,
        incarnations: new Set(sprites.incarnations()),
        spriteIds: named.sprites,
        bootSnapshots: named.bootSnapshots,
        systems: named.systems,
        logger,
      });
      await slots?.settle();
      checkpoints.resumeChecks();
      sprites.startResting();
      await templates.recover();
      pools.recover();
    },
    async close() {
      await pools.close();
      await jobs.close();
      await closeCheckpoints();
      await exec.close();
      await sprites.close();
      organizations.close();
      database[Symbol.dispose]();
    },
  };
}
