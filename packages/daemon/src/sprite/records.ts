/** What the sprite hub needs of the store. Every write is durable when its call returns, unless it is `unflushed`: then it outlives this program alone. */
import type { MachineRecord } from "../machine/index.ts";
import type { SpriteState } from "./lifecycle.ts";
import type { Sprite } from "./sprite.ts";

export interface SpriteRecords {
  /** `isUnfinished`: its batch was never finished, so it belongs to nobody. */
  loadSprites(): { sprite: Sprite; state: SpriteState; isUnfinished: boolean }[];
  loadMachines(): MachineRecord[];
  insertSprite(sprite: Sprite, state: SpriteState, batchId?: string): void;
  /** From now on the sprites of the batch exist. */
  finishBatch(batchId: string): void;
  /** Writes the user's fields; never the state. */
  updateSprite(sprite: Sprite): void;
  /** Writes the state, and in the same transaction the machine that begins or ends with it. */
  updateState(
    spriteId: string,
    state: SpriteState,
    change?: { machineBegun?: MachineRecord; machineEnded?: string; lastRunningAtMs?: number; unflushed?: boolean },
  ): void;
  /** Writes the user's fields and the time of creation of a spare that is claimed, and what `record` writes, in one transaction. */
  claimSprite(sprite: Sprite, record: () => void): void;
  deleteSprite(spriteId: string): void;
}
