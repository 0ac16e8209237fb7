/** The sprite queries as the sprite hub takes them: one object, state changes with their VM in one transaction. */
import type { Database } from "./database.ts";
import { addToBatch, finishBatch, unfinishedSprites } from "./sprite-batches.ts";
import {
  deleteSprite,
  insertSprite,
  loadSprites,
  type SpriteRecord,
  type StateRecord,
  updateClaimed,
  updateSprite,
  updateSpriteState,
} from "./sprites.ts";
import { deleteVm, insertVm, loadVms, type VmRecord } from "./vms.ts";

export interface StateChange {
  machineBegun?: VmRecord;
  /** Incarnation. */
  machineEnded?: string;
  lastRunningAtMs?: number;
  /** It need not outlive the host's power. Alone, without a machine that begins or ends. */
  unflushed?: boolean;
}

/** `State` is what was stored; its form is the caller's. */
export function spriteRecords<State extends StateRecord>(database: Database) {
  return {
    loadSprites() {
      const unfinished = unfinishedSprites(database);
      return loadSprites<State>(database).map((record) => ({ ...record, isUnfinished: unfinished.has(record.sprite.id) }));
    },
    loadMachines: () => loadVms(database),
    insertSprite: (sprite: SpriteRecord, state: State, batchId?: string) =>
      database.transaction(() => {
        insertSprite(database, sprite, state);
        if (batchId !== undefined) addToBatch(database, sprite.id, batchId);
      }),
    finishBatch: (batchId: string) => finishBatch(database, batchId),
    updateSprite: (sprite: SpriteRecord) => updateSprite(database, sprite),
    updateState(spriteId: string, state: State, change: StateChange = {}) {
      if (change.unflushed === true) {
        updateSpriteState(database, spriteId, state, change);
        return;
      }
      database.transaction(() => {
        if (change.machineEnded !== undefined) deleteVm(database, change.machineEnded);
        if (change.machineBegun) insertVm(database, change.machineBegun);
        updateSpriteState(database, spriteId, state, change);
      });
    },
    claimSprite: (sprite: SpriteRecord, record: () => void) =>
      database.transaction(() => {
        updateClaimed(database, sprite);
        record();
      }),
    deleteSprite: (spriteId: string) => deleteSprite(database, spriteId),
  };
}
