/** What the parts of this feature share. */
import type { Logger } from "@sprited/base";
import type { DiskPool } from "@sprited/disk";
import { ApiError } from "@sprited/protocol/errors";
import type { Activities, Sprite } from "../sprite/index.ts";
import type { CheckpointRecords, CheckpointRow } from "../store/index.ts";
import type { CheckpointFiles, MetaIdentity } from "./files.ts";
import type { SpriteStates } from "./sprite-state.ts";

export interface CheckpointParts {
  records: CheckpointRecords;
  files: CheckpointFiles;
  states: SpriteStates;
  pool: DiskPool;
  activities: Activities;
  logger: Logger;
  nowMs(): number;
}

/** Room that is left for the first writes after a clone that shares blocks, bytes. */
const CLONE_BYTES_MIN = 64 * 1024 * 1024;

/** Throws `disk_full` when a copy of a state cannot be made. `bytes`: what a copy that shares nothing takes. */
export async function requireRoom(pool: DiskPool, bytes: number, what: string): Promise<void> {
  await pool.requireSpace(pool.cloneKind === "copy" ? Math.max(bytes, CLONE_BYTES_MIN) : CLONE_BYTES_MIN, what);
}

export function identityOf(sprite: Pick<Sprite, "config" | "imageName" | "imageDigest">, row: CheckpointRow): MetaIdentity {
  return {
    spriteId: row.spriteId,
    id: row.id,
    createdAtMs: row.createdAtMs,
    image: { name: sprite.imageName, digest: sprite.imageDigest },
    config: sprite.config,
  };
}

export function unknownCheckpoint(id: string): ApiError {
  return new ApiError("checkpoint_not_found", `there is no checkpoint ${JSON.stringify(id)}`);
}
