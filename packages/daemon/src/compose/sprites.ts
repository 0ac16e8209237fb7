/** The hub and what it stands on: machines, boot snapshots, the quotas of organizations. */
import { ignore, type Logger } from "@sprited/base";
import { loadSystemByDigest } from "@sprited/disk";
import { type BootSnapshots, type MachinesOptions, openBootSnapshots, openMachines } from "../machine/index.ts";
import { allocatedGb, type Organizations, type Quotas } from "../organization/index.ts";
import { type SpriteQuotas, SpriteRegistry, type SpriteState } from "../sprite/index.ts";
import { type Database, spriteRecords } from "../store/index.ts";
import type { FeatureSettings, HostParts } from "./parts.ts";

export interface SpriteInput {
  parts: HostParts;
  settings: FeatureSettings;
  database: Database;
  organizations: Organizations;
  quotas: SpriteQuotas;
  logger: Logger;
}

export interface SpriteFeatures {
  snapshots: BootSnapshots;
  machineOptions: MachinesOptions;
  sprites: SpriteRegistry;
}

export function composeSprites({ parts, settings, database, organizations, quotas, logger }: SpriteInput): SpriteFeatures {
  const { layout, driver, slots, pool, system } = parts;
  const { timeouts } = settings;
  const snapshots = openBootSnapshots({
    driver,
    slots,
    pool,
    system,
    directory: layout.bootSnapshots,
    runDirectory: layout.run,
    bootTimeoutMs: timeouts.bootMs,
    logger,
  });
  const machineOptions: MachinesOptions = {
    driver,
    slots,
    snapshots,
    pool,
    findSystem: async (digest) =>
      digest === system.digest
        ? system
        : await loadSystemByDigest(layout, digest).catch(ignore("gone: memories that need it cannot be resumed")),
    runDirectory: layout.run,
    startTimeoutMs: timeouts.resumeMs,
    linkTimeoutMs: timeouts.guestCallMs,
    logger,
  };
  const sprites = new SpriteRegistry({
    records: spriteRecords<SpriteState>(database),
    machines: openMachines(machineOptions),
    images: parts.images,
    pool,
    spritesDirectory: layout.sprites,
    defaults: settings.defaults,
    limits: settings.limits,
    rest: settings.rest,
    quotas,
    stopGraceMs: timeouts.stopMs,
    organizationSlug: (id) => organizations.slugOf(id),
    logger,
  });
  return { snapshots, machineOptions, sprites };
}

/** The quota as those ask it who make things. `owned`: whose files an organization pays for. */
export function quotaChecks(
  quotas: Quotas,
  layout: HostParts["layout"],
  owned: (organizationId: string) => { spriteIds: string[]; templateIds: string[] },
): SpriteQuotas & { requireCheckpoint(organizationId: string, present: number): Promise<void> } {
  const requireDisk = async (organizationId: string): Promise<void> => {
    if (quotas.of(organizationId).diskGb === undefined) return;
    quotas.require(organizationId, "diskGb", await allocatedGb(layout, owned(organizationId)), 0);
  };
  return {
    async requireSprite(organizationId, present) {
      quotas.require(organizationId, "sprites", present);
      await requireDisk(organizationId);
    },
    requireRunning: (organizationId, present) => quotas.require(organizationId, "running", present),
    async requireCheckpoint(organizationId, present) {
      quotas.require(organizationId, "checkpoints", present);
      await requireDisk(organizationId);
    },
  };
}
