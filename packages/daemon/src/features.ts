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
import type { OpenNetworkSlots, VmmDriver } from "@sprited/vmm";
import { CheckpointFiles, Checkpoints, spriteStates, Verifier } from "./checkpoint/index.ts";
import { type ExecSettings, Sessions } from "./exec/index.ts";
import { Jobs, type JobSettings } from "./job/index.ts";
import { Files } from "./files/index.ts";
import { Forks } from "./fork/index.ts";
import { type BootSnapshots, openBootSnapshots, openMachines } from "./machine/index.ts";
import { ensureFirstToken, Organizations, Quotas } from "./organization/index.ts";
import { PortWatches, Proxies } from "./ports/index.ts";
import { reclaim } from "./reclaim/index.ts";
import { type SpriteDefaults, type SpriteLimits, SpriteRegistry } from "./sprite/index.ts";
import { checkpointRecords, jobRecords, openDatabase, sessionRecords, spriteRecords } from "./store/index.ts";
import type { GuestLife, SpriteState } from "./sprite/index.ts";

/** What the host gives. */
export interface HostParts {
  layout: HomeLayout;
  driver: VmmDriver;
  /** Undefined where the host has no taps. */
  slots: OpenNetworkSlots | undefined;
  pool: DiskPool;
  images: ImageStore;
  system: SystemImage;
  /** Checks the file system of a throwaway clone; the real check when left out. */
  checkDisk?: ((file: string, options: { signal: AbortSignal }) => Promise<DiskVerdict>) | undefined;
}

export interface FeatureSettings {
  defaults: SpriteDefaults;
  limits: SpriteLimits;
  checkpoints?: CheckpointSettings;
  exec?: Omit<ExecSettings, "logDirectory">;
  jobs?: JobSettings;
  timeouts: { bootMs: number; resumeMs: number; guestCallMs: number; stopMs: number };
}

export interface CheckpointSettings {
  /** Automatic checkpoints kept of each sprite. */
  autoKeep: number;
  /** Checks of checkpoints at once. */
  checksParallel: number;
  /** User of the program that checks disks; used by nothing else. */
  checkUid: number;
}

const CHECKPOINT_DEFAULTS: CheckpointSettings = { autoKeep: 5, checksParallel: 1, checkUid: 1_900_065_535 };
const JOB_DEFAULTS: JobSettings = { retentionMs: undefined, keptPerSprite: 200, webhookPrivate: false };
const EXEC_DEFAULTS: Omit<ExecSettings, "logDirectory"> = {
  logBytesMax: 64 * 1024 * 1024,
  retention: { countMax: 100, ageMsMax: 7 * 86_400_000, bytesMax: 256 * 1024 * 1024 },
};
/** Pause before a check that came to no verdict is tried again, ms. */
const CHECK_RETRY_MS = 60_000;

export interface Features {
  sprites: SpriteRegistry;
  exec: Sessions;
  files: Files;
  jobs: Jobs;
  checkpoints: Checkpoints;
  forks: Forks;
  proxies: Proxies;
  ports: PortWatches;
  organizations: Organizations;
  quotas: Quotas;
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
  const machines = openMachines({
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
  const exec = new Sessions({
    sprites,
    records: sessionRecords(database),
    settings: { logDirectory: layout.sessions, ...(settings.exec ?? EXEC_DEFAULTS) },
    logger,
  });
  const jobs = new Jobs({ records: jobRecords(database), sprites, exec, settings: settings.jobs ?? JOB_DEFAULTS, nowMs: Date.now, logger });
  const { checkpoints, forks } = composeCheckpoints({
    parts,
    settings: settings.checkpoints ?? CHECKPOINT_DEFAULTS,
    database,
    sprites,
    logger,
  });
  return {
    sprites,
    exec,
    files: new Files(sprites),
    jobs,
    checkpoints,
    forks,
    proxies: new Proxies({ exec }),
    ports: new PortWatches({ sprites, logger }),
    organizations,
    quotas,
    snapshots,
    async recover() {
      const lives = new Map<string, GuestLife>();
      await sprites.recover((spriteId, life) => void lives.set(spriteId, life));
      await checkpoints.recover();
      // A client that comes back at once finds its session.
      await exec.recover(lives, new Set(sprites.ids()));
      await jobs.recover();
      await reclaim({
        driver,
        layout,
        incarnations: new Set(sprites.incarnations()),
        spriteIds: new Set(sprites.ids()),
        bootSnapshots: await snapshots.usable(),
        systems: new Set([parts.system.digest, ...sprites.systems()]),
        logger,
      });
      await slots?.settle();
    },
    async close() {
      await jobs.close();
      await checkpoints.close();
      await exec.close();
      await sprites.close();
      organizations.close();
      database[Symbol.dispose]();
    },
  };
}

function composeCheckpoints(input: {
  parts: HostParts;
  settings: CheckpointSettings;
  database: ReturnType<typeof openDatabase>;
  sprites: SpriteRegistry;
  logger: Logger;
}): { checkpoints: Checkpoints; forks: Forks } {
  const { parts, settings, database, sprites, logger } = input;
  const { layout, pool } = parts;
  const records = checkpointRecords(database);
  const files = new CheckpointFiles({ pool, root: layout.checkpoints });
  const isRoot = process.getuid?.() === 0;
  const verifier = new Verifier({
    records,
    files,
    pool,
    scratch: layout.scratch,
    checkDisk: parts.checkDisk ?? ((file, { signal }) => checkGuestDisk(file, { uid: settings.checkUid, isRoot, signal })),
    parallel: settings.checksParallel,
    retryMs: CHECK_RETRY_MS,
    logger,
  });
  const states = spriteStates(sprites);
  const checkpoints = new Checkpoints({
    parts: {
      records,
      files,
      states,
      pool,
      activities: sprites.activities,
      logger,
      nowMs: Date.now,
      spriteDirectory: (spriteId) => path.join(layout.sprites, spriteId),
    },
    sprites,
    verifier,
    scratch: layout.scratch,
    autoKeep: settings.autoKeep,
    vmmBuild: parts.driver.build,
  });
  const forks = new Forks({ sprites, states, files, activities: sprites.activities, scratch: layout.scratch, logger });
  return { checkpoints, forks };
}
