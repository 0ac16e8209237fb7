/**
 * Steps of other features that need a sprite to hold still: copies of its disk and memory. They
 * run in the sprite's mailbox: no wake, sleep, stop or delete happens meanwhile, and whoever asks
 * for one waits.
 */
import { memoryPaths, type Machine, type MemoryRecord } from "../../machine/index.ts";
import { settleReplacement } from "./replace.ts";
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

/** Runs `copy` over quiet files. Whatever it does, the sprite is afterwards as it was. */
export async function snapshot<T>(core: SpriteCore, options: SnapshotOptions, copy: (source: SnapshotSource) => Promise<T>): Promise<T> {
  core.admits("pause");
  await settleReplacement(core);
  await steady(core);
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
