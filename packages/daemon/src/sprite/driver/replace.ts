/**
 * Putting another disk, and another memory, in the place of a sprite's own: a step of its mailbox
 * that other features take. One that broke off half way is finished before anything uses what lies
 * there (LIFE-30).
 */
import { mkdir } from "node:fs/promises";
import { type MemoryRecord, removeMemory } from "../../machine/index.ts";
import { type LifeEnd, placedLifeId } from "../life.ts";
import type { SpriteCore } from "./sprite-core.ts";
import { steady } from "./steady.ts";

/** Where a replacing step puts things. */
export interface ReplacePlace {
  diskPath: string;
  /** Exists and is empty; takes `ram` and `state` (`memoryPaths`). */
  memoryDirectory: string;
}

/** What a replacing step has put there: a memory with its record, or none. */
export interface Replaced {
  memory?: MemoryRecord | undefined;
  /** Called in the same step, when the sprite's state names what was put in place. */
  settled?(): void;
}

export interface Replacement {
  /** What the life before is told. */
  end: LifeEnd;
  /** Id of the life that a memory put in place begins; see `placedLifeId`. */
  lifeId: string;
  swap(place: ReplacePlace): Promise<Replaced>;
}

/** Ends the sprite's VM and life at once, lets `swap` put other files in place, and goes on as they say. */
export async function replace(core: SpriteCore, { end, lifeId, swap }: Replacement): Promise<void> {
  await steady(core);
  core.admits("stop");
  const { machine } = core;
  if (machine) {
    await machine.kill();
    core.gone(machine, end);
  }
  if (core.state.kind === "hibernated") {
    core.life?.end(end);
    core.apply({ type: "memory_dropped" });
  }
  const { diskPath, memoryDirectory } = core.options.machineSpec();
  await removeMemory(memoryDirectory);
  await mkdir(memoryDirectory, { mode: 0o711 });
  const { memory, settled } = await swap({ diskPath, memoryDirectory });
  if (memory) core.apply({ type: "memory_placed", life: placedLifeId(lifeId), memory: { ...memory, inherited: true } });
  settled?.();
}

/** Finishes a replacement that broke off; the sprite's files are a mixture until then. Throws what that throws. */
export async function settleReplacement(core: SpriteCore): Promise<void> {
  const left = core.options.unsettled?.();
  if (left) await replace(core, left);
}
