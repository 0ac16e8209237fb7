/**
 * Steps of other features that need a sprite to hold still: copies of its disk and memory, and
 * putting others in their place. They run in the sprite's mailbox: no wake, sleep, stop or delete
 * happens meanwhile, and whoever asks for one waits.
 */
import { mkdir } from "node:fs/promises";
import { memoryPaths, type Machine, type MemoryRecord, removeMemory } from "../../machine/index.ts";
import { type LifeEnd, placedLifeId } from "../life.ts";
import type { SpriteCore } from "./sprite-core.ts";
import { steady } from "./steady.ts";
import { stand } from "./sleep.ts";
import { rouse } from "./wake.ts";

/** A memory in its files, unchanged for as long as the step runs. */
export interface SavedMemory {
  ramPath: string;
  statePath: string;
  record: MemoryRecord;
}

/** What a copying step meets. */
export interface SnapshotSource {
  diskPath: string;
  /**
   * The machine, when its vCPUs run: whoever copies the disk alone freezes its file systems over
   * `machine.link()`. Undefined while nothing runs; the disk is then quiet, flushed before the sprite
   * fell asleep.
   */
  machine: Machine | undefined;
  /** The memory that belongs to the disk as it is now, where it was asked for and there is one. */
  memory: SavedMemory | undefined;
  /** Whose memory it is; undefined for a cold sprite. */
  lifeId: string | undefined;
}

export interface SnapshotOptions {
  /** Stops the vCPUs for the copy and saves the memory; without effect on a cold sprite. */
  memory: boolean;
  signal?: AbortSignal | undefined;
}

/** Where a replacing step puts things. */
export interface ReplacePlace {
  diskPath: string;
  /** Exists and is empty; takes `ram` and `state` (`memoryPaths`). */
  memoryDirectory: string;
}

/** What a replacing step has put there: a memory with its record, or none. */
export interface Replaced {
  memory?: MemoryRecord | undefined;
}

/** Runs `copy` over quiet files. Whatever it does, the sprite is afterwards as it was. */
export async function snapshot<T>(core: SpriteCore, options: SnapshotOptions, copy: (source: SnapshotSource) => Promise<T>): Promise<T> {
  await steady(core);
  core.admits("pause");
  options.signal?.throwIfAborted();
  const { machine, state } = core;
  const { diskPath, memoryDirectory } = core.options.machineSpec();
  const lifeId = core.life?.id;
  const files = memoryPaths(memoryDirectory);
  const saved = (record: MemoryRecord): SavedMemory => ({ ramPath: files.ram, statePath: files.state, record });
  if (state.kind === "hibernated") {
    return await copy({ diskPath, machine: undefined, memory: options.memory ? saved(state.memory) : undefined, lifeId });
  }
  if (!machine) return await copy({ diskPath, machine: undefined, memory: undefined, lifeId });
  if (!options.memory) return await copy({ diskPath, machine: state.kind === "running" ? machine : undefined, memory: undefined, lifeId });
  const wasRunning = state.kind === "running";
  try {
    if (wasRunning) await stand(core, machine, { sync: false, wanted: () => true });
    const record = await machine.saveMemory(core.options.machineSpec());
    return await copy({ diskPath, machine: undefined, memory: saved(record), lifeId });
  } finally {
    await machine.forgetSaved();
    if (wasRunning) await rouse(core, new AbortController().signal);
  }
}

/** Ends the sprite's VM and life at once, lets `swap` put other files in place, and goes on as they say. */
export async function replace(
  core: SpriteCore,
  options: { end: LifeEnd; lifeId: string },
  swap: (place: ReplacePlace) => Promise<Replaced>,
): Promise<void> {
  await steady(core);
  core.admits("stop");
  const { machine } = core;
  if (machine) {
    await machine.kill();
    core.gone(machine, options.end);
  }
  if (core.state.kind === "hibernated") {
    core.life?.end(options.end);
    core.apply({ type: "memory_dropped" });
  }
  const { diskPath, memoryDirectory } = core.options.machineSpec();
  await removeMemory(memoryDirectory);
  await mkdir(memoryDirectory, { mode: 0o711 });
  const { memory } = await swap({ diskPath, memoryDirectory });
  if (memory) core.apply({ type: "memory_placed", life: placedLifeId(options.lifeId), memory: { ...memory, inherited: true } });
}
