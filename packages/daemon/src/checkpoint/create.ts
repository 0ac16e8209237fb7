/**
 * Making a checkpoint (CKPT-1..6): row → files while the state stands still → flushed → meta data →
 * acknowledged. What fails on the way leaves nothing.
 */
import { Scope } from "@sprited/base";
import type { Sprite } from "../sprite/index.ts";
import type { CheckpointRow } from "../store/index.ts";
import type { CreateCheckpoint } from "./checkpoint.ts";
import { type CheckpointParts, identityOf, requireRoom } from "./parts.ts";

/** Makes one and makes it current. Resolves when it is durable. */
export async function createCheckpoint(
  parts: CheckpointParts,
  sprite: Sprite,
  request: CreateCheckpoint & { isAuto: boolean },
  begun: (row: CheckpointRow) => void,
): Promise<CheckpointRow> {
  const { records, files, states, logger } = parts;
  const startedMs = parts.nowMs();
  await requireRoom(parts.pool, 0, "a checkpoint");
  await using scope = new Scope(`checkpoint of ${sprite.name}`);
  const row = records.begin({ spriteId: sprite.id, comment: request.comment, isAuto: request.isAuto, createdAtMs: startedMs });
  scope.defer("row", () => records.remove(row.spriteId, row.id));
  scope.defer("files", () => files.remove(row.spriteId, row.id));
  begun(row);
  using _hold = parts.activities.hold(sprite.id, "operation", `checkpoint ${row.id}`);
  const target = await files.prepare(row.spriteId, row.id);
  const { value: memory, pausedMs } = await states.copy(sprite.id, { memory: request.memory }, async (source) => {
    await files.copy(source, target);
    return source.memory?.record;
  });
  const bytes = await files.seal(target, identityOf(sprite, row), memory);
  const change = { ...bytes, hasMemory: memory !== undefined };
  records.acknowledge(row.spriteId, row.id, change);
  scope.move();
  logger.info(
    {
      event: "checkpoint.create",
      outcome: "ok",
      spriteId: sprite.id,
      checkpointId: row.id,
      memory: change.hasMemory,
      ...bytes,
      pausedMs: Math.round(pausedMs),
      durationMs: parts.nowMs() - startedMs,
    },
    "checkpoint made",
  );
  return { ...row, ...change, state: "verifying" };
}
