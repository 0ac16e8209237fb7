/** Templates and pools, put together: each asks the other who uses what and what changed. */
import type { Logger } from "@sprited/base";
import type { DiskPool, HomeLayout } from "@sprited/disk";
import { CheckpointFiles, type Checkpoints } from "../checkpoint/index.ts";
import type { Exec } from "../exec/index.ts";
import { type PoolConfig, type PoolCounts, Pools, poolSprites } from "../pool/index.ts";
import type { SpriteRegistry } from "../sprite/index.ts";
import { type Database, poolRecords, templateRecords } from "../store/index.ts";
import { Templates, type TemplateVersion } from "../template/index.ts";

export interface PoolParts {
  layout: HomeLayout;
  pool: DiskPool;
  database: Database;
  sprites: SpriteRegistry;
  checkpoints: Checkpoints;
  exec: Exec;
  /** Build of the VMM: memories of another one cannot be resumed here. */
  vmmBuild: string;
  organizationSlug(organizationId: string): string;
  logger: Logger;
}

export function composePools(parts: PoolParts): { templates: Templates; pools: Pools } {
  const { database, sprites, checkpoints, exec, organizationSlug, logger } = parts;
  const templates: Templates = new Templates({
    records: templateRecords<TemplateVersion>(database),
    source: {
      checkpoint: (request, call) => checkpoints.source({ ...request, comment: "for a template" }, call),
    },
    sprites,
    files: new CheckpointFiles({ pool: parts.pool, root: parts.layout.templates }),
    canResume: (build) => build === parts.vmmBuild,
    organizationSlug,
    poolsOf: (organizationId, name) => pools.usersOf(organizationId, name),
    changed: (organizationId, name) => pools.templateChanged(organizationId, name),
    logger,
    nowMs: Date.now,
  });
  const pools: Pools = new Pools({
    records: poolRecords<PoolConfig, PoolCounts>(database),
    sprites: poolSprites({ sprites, templates, exec }),
    organizationSlug,
    logger,
    nowMs: Date.now,
  });
  return { templates, pools };
}
