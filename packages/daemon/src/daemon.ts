/** The daemon itself: host, features and API put together. The only file that knows them all. */
import { readFileSync } from "node:fs";
import type { Logger } from "@sprited/base";
import type { OnProgress } from "@sprited/disk";
import { startApiServer } from "./api/index.ts";
import type { RunningDaemon } from "./commands/index.ts";
import type { Config } from "./config/index.ts";
import { composeFeatures, type FeatureSettings } from "./compose/index.ts";
import { openHost } from "./host-parts.ts";
import { PRODUCT_PACKAGE } from "./setup/index.ts";

/** Above every user id that a VM gets. */
const CHECK_UID_OFFSET = 65_535;

/** Opens the host, settles what an earlier daemon left, and answers requests. */
export async function startDaemon(config: Config, options: { logger: Logger }): Promise<RunningDaemon> {
  const { logger } = options;
  const host = await openHost(config, { logger });
  const features = await composeFeatures(host.parts, featureSettings(config), { logger });
  const api = await startApiServer({
    listen: config.listen,
    features,
    logger,
    version: productVersion(),
    spriteDomain: config.api.domain,
    bodyBytesMax: config.api.bodyBytesMax,
    control: config.api.control === "on",
    state: "starting",
  });
  await features.recover();
  api.markReady();
  return {
    address: api.address,
    limitations: host.limitations,
    async close() {
      await api.close({ drainMs: config.timeouts.shutdownMs });
      await features.close();
      await host.close();
    },
  };
}

/** Makes the boot snapshot of the default sprite, so that the first create resumes instead of boots. */
export async function makeBootSnapshot(
  config: Config,
  options: { logger: Logger; onProgress: OnProgress; signal?: AbortSignal | undefined },
): Promise<void> {
  const host = await openHost(config, { logger: options.logger, signal: options.signal });
  try {
    const settings = featureSettings(config);
    const features = await composeFeatures(host.parts, settings, { logger: options.logger });
    const { cpus, memoryMib, storageGb } = settings.defaults;
    await features.snapshots.get(
      { shape: { cpus, memoryMib }, storageGb },
      { onProgress: options.onProgress, ...(options.signal ? { signal: options.signal } : {}) },
    );
    await features.close();
  } finally {
    await host.close();
  }
}

function featureSettings(config: Config): FeatureSettings {
  const { sprite, limits, jobs, timeouts } = config;
  return {
    defaults: { cpus: sprite.cpus, memoryMib: sprite.memoryMb, storageGb: sprite.storageGb, imageName: sprite.image },
    limits: { cpusMax: limits.cpus, memoryMibMax: limits.memoryMb, storageGbMin: 1, storageGbMax: limits.storageGb },
    exec: {
      logBytesMax: config.exec.logBytes,
      retention: {
        countMax: config.exec.endedSessions,
        ageMsMax: config.exec.endedHours * 3_600_000,
        bytesMax: config.exec.endedLogBytes,
      },
    },
    checkpoints: {
      autoKeep: config.checkpoint.autoKeep,
      checksParallel: config.checkpoint.checksParallel,
      checkUid: config.network.uidBase + CHECK_UID_OFFSET,
    },
    jobs: {
      retentionMs: jobs.retentionHours === 0 ? undefined : jobs.retentionHours * 3_600_000,
      keptPerSprite: jobs.keptPerSprite,
      webhookPrivate: jobs.webhookPrivate === "allow",
    },
    rest: {
      idle: { idleMs: sprite.idleSeconds * 1000, hibernateAfterMs: sprite.hibernateAfterSeconds * 1000 },
      admission: { runningMemoryMib: limits.runningMemoryMb, reserveMib: limits.memoryReserveMb, waitMs: timeouts.memoryWaitMs },
      startsParallel: limits.startsParallel,
    },
    timeouts: { bootMs: timeouts.bootMs, resumeMs: timeouts.resumeMs, guestCallMs: timeouts.guestCallMs, stopMs: timeouts.stopMs },
  };
}

function productVersion(): string {
  return (JSON.parse(readFileSync(PRODUCT_PACKAGE, "utf8")) as { version: string }).version;
}
