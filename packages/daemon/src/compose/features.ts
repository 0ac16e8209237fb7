/**
 * The features, put together over whatever machines, disks and store they are given: the real
 * host's or simulated ones. Nothing here opens a device.
 */
import { type Logger, systemClock } from "@sprited/base";
import { isolatedSlots } from "@sprited/vmm";
import type { Archives } from "../archive/index.ts";
import type { Checkpoints } from "../checkpoint/index.ts";
import { Sessions } from "../exec/index.ts";
import { Files } from "../files/index.ts";
import type { Forks } from "../fork/index.ts";
import { Jobs } from "../job/index.ts";
import { type BootSnapshots, openMachines } from "../machine/index.ts";
import { Metrics } from "../metrics/index.ts";
import { ensureFirstToken, Organizations, Quotas } from "../organization/index.ts";
import type { Pools } from "../pool/index.ts";
import { PortWatches, Proxies } from "../ports/index.ts";
import { GarbageCollection } from "../reclaim/index.ts";
import type { SpriteRegistry } from "../sprite/index.ts";
import { jobRecords, openDatabase, sessionRecords } from "../store/index.ts";
import type { Templates } from "../template/index.ts";
import { CHECKPOINT_DEFAULTS, composeCheckpoints } from "./checkpoints.ts";
import { EXEC_DEFAULTS, type FeatureSettings, type HostParts, JOB_DEFAULTS } from "./parts.ts";
import { composePools } from "./pools.ts";
import { referencesOf, settle } from "./settle.ts";
import { composeSprites, quotaChecks } from "./sprites.ts";

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
  metrics: Metrics;
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
  const organizationSlug = (id: string): string => organizations.slugOf(id);
  const quotas = new Quotas(database);
  const checks = quotaChecks(quotas, layout, (id) => ({ spriteIds: sprites.idsOf(id), templateIds: prepared.templates.idsOf(id) }));
  const { sprites, snapshots, machineOptions } = composeSprites({ parts, settings, database, organizations, quotas: checks, logger });
  const exec = new Sessions({
    sprites,
    records: sessionRecords(database),
    settings: { logDirectory: layout.sessions, ...(settings.exec ?? EXEC_DEFAULTS) },
    logger,
  });
  const jobs = new Jobs({ records: jobRecords(database), sprites, exec, settings: settings.jobs ?? JOB_DEFAULTS, nowMs: Date.now, logger });
  const { close: closeCheckpoints, ...saved } = composeCheckpoints({
    layout,
    pool,
    vmmBuild: driver.build,
    isolatedMachines: openMachines({ ...machineOptions, slots: slots && (parts.isolate ?? isolatedSlots)(slots) }),
    checkDisk: parts.checkDisk,
    settings: settings.checkpoints ?? CHECKPOINT_DEFAULTS,
    database,
    sprites,
    admit: (organizationId, present) => checks.requireCheckpoint(organizationId, present),
    logger,
  });
  const { checkpoints } = saved;
  const prepared = composePools({ layout, pool, database, sprites, checkpoints, exec, vmmBuild: driver.build, organizationSlug, logger });
  const settled = { parts, sprites, exec, jobs, checkpoints, ...prepared, snapshots, logger };
  return {
    sprites,
    exec,
    files: new Files(sprites),
    jobs,
    ...saved,
    ...prepared,
    proxies: new Proxies({ exec, sprites }),
    ports: new PortWatches({ sprites, logger }),
    organizations,
    quotas,
    garbage: new GarbageCollection({ layout, references: () => referencesOf(settled) }),
    metrics: new Metrics({ sprites, exec, jobs, pools: prepared.pools }),
    snapshots,
    recover: () => settle(settled),
    async close() {
      await prepared.pools.close();
      await jobs.close();
      await closeCheckpoints();
      await exec.close();
      await sprites.close();
      organizations.close();
      database[Symbol.dispose]();
    },
  };
}
