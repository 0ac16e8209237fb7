/** Checkpoints and what is made of them, put together. */
import path from "node:path";
import type { Logger } from "@sprited/base";
import { checkGuestDisk, type DiskVerdict, type HomeLayout, type DiskPool } from "@sprited/disk";
import { Archives } from "../archive/index.ts";
import { CheckpointFiles, CheckpointReaders, Checkpoints, spriteStates, trialResume, Verifier } from "../checkpoint/index.ts";
import { Files } from "../files/index.ts";
import { Forks } from "../fork/index.ts";
import type { Machines } from "../machine/index.ts";
import type { SpriteRegistry } from "../sprite/index.ts";
import { CheckpointRecords, type Database } from "../store/index.ts";

export interface CheckpointSettings {
  /** Automatic checkpoints kept of each sprite. */
  autoKeep: number;
  /** Checks of checkpoints at once. */
  checksParallel: number;
  /** User of the program that checks disks; used by nothing else. */
  checkUid: number;
}

export const CHECKPOINT_DEFAULTS: CheckpointSettings = { autoKeep: 5, checksParallel: 1, checkUid: 1_900_065_535 };
/** Pause before a check that came to no verdict is tried again, ms. */
const CHECK_RETRY_MS = 60_000;

export interface CheckpointInput {
  layout: HomeLayout;
  pool: DiskPool;
  /** Build of the VMM that resumes memory here. */
  vmmBuild: string;
  /** Machines that reach no network. */
  isolatedMachines: Machines;
  /** Checks the file system of a throwaway clone; the real check when left out. */
  checkDisk: ((file: string, options: { signal: AbortSignal }) => Promise<DiskVerdict>) | undefined;
  settings: CheckpointSettings;
  database: Database;
  sprites: SpriteRegistry;
  /** Asked before a checkpoint is made for its owner; throws the quota's refusal. */
  admit: (organizationId: string, present: number) => Promise<void>;
  logger: Logger;
}

export interface CheckpointFeatures {
  checkpoints: Checkpoints;
  forks: Forks;
  archives: Archives;
  /** Files in checkpoints; sprites are called `readerName`s. */
  checkpointFiles: Files;
  close(): Promise<void>;
}

export function composeCheckpoints(input: CheckpointInput): CheckpointFeatures {
  const { layout, pool, settings, sprites, logger } = input;
  const records = new CheckpointRecords(input.database);
  const files = new CheckpointFiles({ pool, root: layout.checkpoints });
  const isRoot = process.getuid?.() === 0;
  const throwaway = { machines: input.isolatedMachines, pool, scratch: layout.scratch };
  const verifier = new Verifier({
    records,
    files,
    pool,
    scratch: layout.scratch,
    checkDisk: input.checkDisk ?? ((file, { signal }) => checkGuestDisk(file, { uid: settings.checkUid, isRoot, signal })),
    trialResume: (clone, meta, call) => trialResume(throwaway, clone, meta, call),
    parallel: settings.checksParallel,
    retryMs: CHECK_RETRY_MS,
    logger,
  });
  const states = spriteStates(sprites);
  const { activities } = sprites;
  const checkpoints = new Checkpoints({
    parts: {
      records,
      files,
      states,
      pool,
      activities,
      logger,
      nowMs: Date.now,
      spriteDirectory: (spriteId) => path.join(layout.sprites, spriteId),
    },
    sprites,
    verifier,
    scratch: layout.scratch,
    autoKeep: settings.autoKeep,
    vmmBuild: input.vmmBuild,
    admit: input.admit,
  });
  sprites.unsettled = (spriteId) => checkpoints.unsettled(spriteId);
  const forks = new Forks({ sprites, batches: sprites.batches, states, files, activities, scratch: layout.scratch, logger });
  const archives = new Archives({ sprites, checkpoints, states, files, pool, activities, scratch: layout.scratch, logger });
  const readers = new CheckpointReaders({
    ...throwaway,
    find: (organizationId, spriteName, id) => checkpoints.look(organizationId, spriteName, id),
    logger,
  });
  return {
    checkpoints,
    forks,
    archives,
    checkpointFiles: new Files(readers),
    async close() {
      await readers.close();
      await checkpoints.close();
    },
  };
}
