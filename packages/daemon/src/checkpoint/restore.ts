/**
 * Restoring in place (CKPT-10..16).
 *
 * ```
 * begun ──► target's disk cloned beside the sprite's ──► state before copied ──► machine ended ──► copy durable
 *   │                                                                                             │
 *   └── anything fails or the daemon dies: clones removed, nothing was changed                    ▼
 *                                            done ◄── disk renamed, memory cloned into place ◄── swapping
 *                                                        └── the daemon dies: again at the next start
 * ```
 *
 * Both steps may be repeated, so a restore in `swapping` can always be finished. The guest is kept
 * from writing from the copy until its machine ends: what it was told is written is in the copy.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { ignore } from "@sprited/base";
import { syncDirectory } from "@sprited/disk";
import { type MemoryRecord, memoryPaths } from "../machine/index.ts";
import type { ReplacePlace, Sprite } from "../sprite/index.ts";
import type { CheckpointRow, RestoreRow } from "../store/index.ts";
import { type CheckpointMeta, pathsIn } from "./files.ts";
import { type CheckpointParts, identityOf, requireRoom } from "./parts.ts";

/** Directory beside the sprite's disk where the target waits. */
const STAGE = "restore";

export interface RestoreParts extends CheckpointParts {
  /** Directory of the sprite's own files. */
  spriteDirectory(spriteId: string): string;
}

export interface RestoreRequest {
  target: CheckpointRow;
  meta: CheckpointMeta;
  /** Whether the target's memory can be resumed here. */
  withMemory: boolean;
}

/** Puts the sprite into the target's state. Resolves with the automatic checkpoint of the state before. */
export async function restoreCheckpoint(
  parts: RestoreParts,
  sprite: Sprite,
  request: RestoreRequest,
  say: (text: string) => void,
): Promise<CheckpointRow> {
  const { records, files } = parts;
  const { target, withMemory } = request;
  const startedMs = parts.nowMs();
  await requireRoom(parts.pool, target.diskBytes + target.memoryBytes, "a restore");
  const comment = `before the restore of ${target.id}`;
  const previous = records.begin({ spriteId: sprite.id, comment, isAuto: true, createdAtMs: startedMs });
  const restore: RestoreRow = {
    spriteId: sprite.id,
    targetId: target.id,
    previousId: previous.id,
    phase: "begun",
    withMemory,
    startedAtMs: startedMs,
  };
  records.beginRestore(restore);
  let committed = false;
  let still: { release(): Promise<void> } | undefined;
  const staged = stage(parts, restore);
  staged.catch(ignore("awaited below"));
  try {
    say(`Keeping the present state as ${previous.id}...`);
    const paths = await files.prepare(sprite.id, previous.id);
    const copied = await parts.states.copy(sprite.id, { memory: target.hasMemory, keepStill: true }, async (current) => {
      await files.copy(current, paths);
      return current.memory?.record;
    });
    still = copied;
    await staged;
    await parts.states.replace(sprite.id, { lifeId: newLifeId() }, async (place) => {
      const bytes = await files.seal(paths, identityOf(sprite, previous), copied.value);
      records.commitRestore(restore, { ...bytes, hasMemory: copied.value !== undefined });
      committed = true;
      return { memory: await swap(parts, restore, request.meta, place) };
    });
    records.finishRestore(restore);
  } catch (error) {
    await still?.release();
    await staged.catch(ignore("it failed already, or the first failure tells more"));
    if (committed) await putBack(parts, restore);
    else await rollBack(parts, restore);
    throw error;
  }
  const durationMs = parts.nowMs() - startedMs;
  parts.logger.info(
    {
      event: "checkpoint.restore",
      outcome: "ok",
      spriteId: sprite.id,
      checkpointId: target.id,
      previous: previous.id,
      memory: withMemory,
      durationMs,
    },
    "checkpoint restored",
  );
  return previous;
}

/** Settles a restore that an earlier daemon left: before the commit nothing was changed, after it everything is there to finish. */
export async function recoverRestore(parts: RestoreParts, restore: RestoreRow): Promise<"finished" | "rolled_back"> {
  if (restore.phase === "begun") {
    await rollBack(parts, restore);
    return "rolled_back";
  }
  const meta = await parts.files.verify(restore.spriteId, restore.targetId);
  await parts.states.replace(restore.spriteId, { lifeId: newLifeId() }, async (place) => ({
    memory: await swap(parts, restore, meta, place),
  }));
  parts.records.finishRestore(restore);
  return "finished";
}

/** Clones the target beside the sprite's files, durably. */
async function stage(parts: RestoreParts, restore: RestoreRow): Promise<void> {
  const directory = path.join(parts.spriteDirectory(restore.spriteId), STAGE);
  await fs.rm(directory, { recursive: true, force: true });
  await fs.mkdir(directory, { mode: 0o711 });
  const from = parts.files.paths(restore.spriteId, restore.targetId);
  const to = pathsIn(directory);
  await parts.pool.clone(from.diskPath, to.diskPath);
  await syncDirectory(path.dirname(directory));
}

/** Renames what is staged into place; what is not there any more was renamed before. */
async function swap(
  parts: RestoreParts,
  restore: RestoreRow,
  meta: CheckpointMeta,
  place: ReplacePlace,
): Promise<MemoryRecord | undefined> {
  const staged = pathsIn(path.join(parts.spriteDirectory(restore.spriteId), STAGE));
  const from = parts.files.paths(restore.spriteId, restore.targetId);
  await renameIfThere(staged.diskPath, place.diskPath);
  if (restore.withMemory) {
    const to = memoryPaths(place.memoryDirectory);
    await parts.pool.clone(from.ramPath, to.ram);
    await parts.pool.clone(from.statePath, to.state);
  }
  await syncDirectory(path.dirname(place.diskPath));
  await removeStage(parts, restore.spriteId);
  return restore.withMemory ? meta.memory?.record : undefined;
}

/** Removes what was staged, durably: once the row is gone too nobody looks for it any more. */
async function removeStage(parts: RestoreParts, spriteId: string): Promise<void> {
  const directory = parts.spriteDirectory(spriteId);
  await fs.rm(path.join(directory, STAGE), { recursive: true, force: true });
  await syncDirectory(directory);
}

/** Nothing of the sprite was changed: only what was prepared goes. */
async function rollBack(parts: RestoreParts, restore: RestoreRow): Promise<void> {
  await removeStage(parts, restore.spriteId);
  await parts.files.remove(restore.spriteId, restore.previousId);
  parts.records.cancelRestore(restore.spriteId);
  parts.records.remove(restore.spriteId, restore.previousId);
}

/**
 * The swap failed half way: the state before is copied back from its checkpoint, which stays. When
 * even that fails the restore stays on record and the next start of the daemon finishes it.
 */
async function putBack(parts: RestoreParts, restore: RestoreRow): Promise<void> {
  const previous = parts.files.paths(restore.spriteId, restore.previousId);
  try {
    await parts.states.replace(restore.spriteId, { lifeId: newLifeId() }, async (place) => {
      await parts.pool.clone(previous.diskPath, place.diskPath);
      await removeStage(parts, restore.spriteId);
      return { memory: undefined };
    });
    parts.records.cancelRestore(restore.spriteId);
  } catch (error) {
    parts.logger.error(
      { event: "checkpoint.put_back", outcome: "failed", spriteId: restore.spriteId, previous: restore.previousId, err: error },
      "a failed restore could not be put back; it is finished at the next start",
    );
  }
}

/** A name that is missing was renamed by an earlier attempt. */
async function renameIfThere(from: string, to: string): Promise<void> {
  try {
    await fs.rename(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

/** Lives are told apart by ids like incarnations. */
function newLifeId(): string {
  return randomBytes(6).toString("hex");
}
