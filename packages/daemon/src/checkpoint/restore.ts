/**
 * Restoring in place (CKPT-10..17).
 *
 * ```
 * begun ──► target's disk cloned beside the sprite's ──► state before copied ──► machine ended ──► copy durable
 *   │                                                                                             │
 *   └── anything fails or the daemon dies: clones removed, nothing was changed                    ▼
 *                                            done ◄── disk renamed, memory cloned into place ◄── swapping
 *                                                        │ fails                                │ the daemon dies:
 *                                                        ▼                                      └── again
 *                          done, as it was ◄── the copy cloned into place ◄── putting_back
 * ```
 *
 * All steps may be repeated, so a restore in `swapping` or `putting_back` can always be brought to
 * its end: at once, else before the next use of the sprite, else at the next start. The guest is
 * kept from writing from the copy until its machine ends: what it was told is written is in the copy.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { ignore } from "@sprited/base";
import { type DiskPool, syncDirectory } from "@sprited/disk";
import { memoryPaths } from "../machine/index.ts";
import type { Replaced, ReplacePlace, Sprite } from "../sprite/index.ts";
import type { CheckpointRow, RestoreRow } from "../store/index.ts";
import { type CheckpointMeta, type CheckpointPaths, pathsIn } from "./files.ts";
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
  const left = records.restoreOf(sprite.id);
  if (left) await recoverRestore(parts, left);
  await requireRoom(parts.pool, target.diskBytes + target.memoryBytes, "a restore");
  const { previous, restore } = records.beginRestore({ spriteId: sprite.id, targetId: target.id, withMemory, startedAtMs: startedMs });
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
    await parts.states.replace(sprite.id, async (place) => {
      const bytes = await files.seal(paths, identityOf(sprite, previous), copied.value);
      records.commitRestore(restore, { ...bytes, hasMemory: copied.value !== undefined });
      restore.phase = "swapping";
      return await swap(parts, restore, request.meta, place);
    });
  } catch (error) {
    await still?.release();
    await staged.catch(ignore("it failed already, or the first failure tells more"));
    if (!isFinishedSince(parts, restore)) {
      await takeBack(parts, restore);
      throw error;
    }
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

/** Settles a restore that is on record: before the commit nothing was changed, after it everything is there to finish or undo. */
export async function recoverRestore(parts: RestoreParts, restore: RestoreRow): Promise<"finished" | "rolled_back"> {
  if (restore.phase === "begun") await rollBack(parts, restore);
  else await parts.states.settle(restore.spriteId);
  return restore.phase === "swapping" ? "finished" : "rolled_back";
}

/**
 * What a restore has left in the place of the sprite's files, as a step that brings it to its end;
 * undefined when they are whole (CKPT-17).
 */
export function unsettledRestore(parts: RestoreParts, spriteId: string): ((place: ReplacePlace) => Promise<Replaced>) | undefined {
  const restore = parts.records.restoreOf(spriteId);
  if (!restore || restore.phase === "begun") return undefined;
  if (restore.phase === "putting_back") return (place) => putBack(parts, restore, place);
  return async (place) => swap(parts, restore, await parts.files.verify(spriteId, restore.targetId), place);
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
async function swap(parts: RestoreParts, restore: RestoreRow, meta: CheckpointMeta, place: ReplacePlace): Promise<Replaced> {
  const staged = pathsIn(path.join(parts.spriteDirectory(restore.spriteId), STAGE));
  await renameIfThere(staged.diskPath, place.diskPath);
  const memory = restore.withMemory
    ? await placeMemory(parts.pool, meta, parts.files.paths(restore.spriteId, restore.targetId), place)
    : undefined;
  await syncDirectory(path.dirname(place.diskPath));
  await removeStage(parts, restore.spriteId);
  return { memory, settled: () => parts.records.finishRestore(restore) };
}

/** Clones the state before from its checkpoint into place. */
async function putBack(parts: RestoreParts, restore: RestoreRow, place: ReplacePlace): Promise<Replaced> {
  const { spriteId, previousId } = restore;
  const meta = await parts.files.verify(spriteId, previousId);
  const from = parts.files.paths(spriteId, previousId);
  await parts.pool.clone(from.diskPath, place.diskPath);
  const memory = await placeMemory(parts.pool, meta, from, place);
  await removeStage(parts, spriteId);
  return { memory, settled: () => parts.records.undoRestore(restore) };
}

async function placeMemory(
  pool: DiskPool,
  { memory }: CheckpointMeta,
  from: CheckpointPaths,
  place: ReplacePlace,
): Promise<Replaced["memory"]> {
  if (!memory) return undefined;
  const to = memoryPaths(place.memoryDirectory);
  await pool.clone(from.ramPath, to.ram);
  await pool.clone(from.statePath, to.state);
  return memory.record;
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
  parts.records.undoRestore(restore);
}

/** Whether somebody who needed the sprite has finished what failed for whoever asked. */
function isFinishedSince({ records }: RestoreParts, { spriteId, phase, targetId }: RestoreRow): boolean {
  return phase === "swapping" && records.restoreOf(spriteId) === undefined && records.current(spriteId) === targetId;
}

/** A restore failed: the sprite becomes what it was. When even that fails it stays on record, and the next use of the sprite does it. */
async function takeBack(parts: RestoreParts, restore: RestoreRow): Promise<void> {
  const { spriteId, previousId: previous } = restore;
  try {
    if (restore.phase === "begun") return await rollBack(parts, restore);
    parts.records.putBackRestore(restore);
    await parts.states.settle(spriteId);
    await parts.files.remove(spriteId, previous).catch(ignore("swept at the next start"));
  } catch (error) {
    const fields = { event: "checkpoint.put_back", outcome: "failed", spriteId, previous, err: error };
    parts.logger.error(fields, "a failed restore could not be put back yet; that is done before the sprite is used again");
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
