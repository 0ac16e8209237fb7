/**
 * What checkpoints need of a sprite: its state standing still while it is copied, and its state
 * replaced as a whole. Here on top of what the sprite's driver offers; tests bring their own.
 *
 * A running sprite whose disk alone is copied is frozen from inside: everything written before is
 * on the disk, nothing is written meanwhile, and nothing has to be repaired later. What takes
 * time, the flushing of what is dirty in guest and host, happens before.
 */
import { randomBytes } from "node:crypto";
import path from "node:path";
import { ignore } from "@sprited/base";
import { syncFile } from "@sprited/disk";
import { ApiError } from "@sprited/protocol/errors";
import type { GuestLink } from "../guest/index.ts";
import { memoryPaths, type MemoryRecord } from "../machine/index.ts";
import type { Replaced, Replacement, ReplacePlace, SnapshotSource, SpriteRegistry } from "../sprite/index.ts";

/** How long a guest's disk may stay frozen before the guest thaws it by itself, ms. */
const FREEZE_MS = 15_000;
/** Longest wait for a guest to flush its disk and stop writing, ms: gigabytes on a slow host. */
const FLUSH_TIMEOUT_MS = 10 * 60_000;
/** A freeze that did not hold is tried again this often. */
const ATTEMPTS_MAX = 3;

/** Files that together are the sprite's state, while nothing changes them. */
export interface StateFiles {
  diskPath: string;
  /** Undefined when no memory was asked for, or the sprite keeps none. */
  memory: StateMemory | undefined;
}

/** A memory that fits the disk beside it. */
export interface StateMemory {
  ramPath: string;
  statePath: string;
  record: MemoryRecord;
}

export interface CopyOptions {
  memory: boolean;
  /** The guest goes on writing only when the result is released: for a sprite that is about to be replaced. */
  keepStill?: boolean;
}

export interface Copied<T> {
  value: T;
  /** How long the guest could not write, or not run at all, ms; 0 when nothing ran. */
  pausedMs: number;
  /** Lets a guest go on that was kept still. */
  release(): Promise<void>;
}

export interface SpriteStates {
  /** Runs `copy` while the sprite's files stand still. Nothing is woken, and the sprite is afterwards as it was. `copy` may run more than once. */
  copy<T>(spriteId: string, options: CopyOptions, copy: (files: StateFiles) => Promise<T>): Promise<Copied<T>>;
  /**
   * Ends the sprite's machine at once and lets `swap` put another disk in place, and a memory with
   * the record it resolves with. When `swap` throws, the sprite is cold with the disk that lies
   * there. Sessions end as `sprite_restored`.
   */
  replace(spriteId: string, swap: (place: ReplacePlace) => Promise<Replaced>): Promise<void>;
  /** Finishes a replacement that broke off, unless some use of the sprite has done it already. */
  settle(spriteId: string): Promise<void>;
}

/** A replacement that ends the life before as `sprite_restored`. */
export function restoring(swap: Replacement["swap"]): Replacement {
  const end = { code: "sprite_restored", reason: "the sprite was restored to a checkpoint" } as const;
  // Lives are told apart by ids like incarnations.
  return { end, lifeId: randomBytes(6).toString("hex"), swap };
}

/** The sprites' drivers as checkpoints take them. */
export function spriteStates(sprites: Pick<SpriteRegistry, "fileSteps">): SpriteStates {
  return {
    async copy(spriteId, options, copy) {
      if (options.memory) await sprites.fileSteps(spriteId).snapshotStep({ memory: false }, flush);
      for (let attempt = 1; ; attempt += 1) {
        const begunAtMs = Date.now();
        const startedMs = performance.now();
        const copied = await sprites
          .fileSteps(spriteId)
          .snapshotStep({ memory: options.memory }, (source) => copyQuiet(source, { ...options, begunAtMs }, copy));
        // The guest stood still for the whole of a step that saved its memory.
        if (copied.savedNow) copied.pausedMs = performance.now() - startedMs;
        if (copied.held) return copied;
        if (attempt === ATTEMPTS_MAX) throw new ApiError("busy", "the sprite did not hold still for a copy of its disk");
      }
    },
    replace: async (spriteId, swap) => await sprites.fileSteps(spriteId).replaceState(restoring(swap)),
    settle: async (spriteId) => await sprites.fileSteps(spriteId).settleReplacement(),
  };
}

/** Flushes what a pause would have to wait for. */
async function flush(source: SnapshotSource): Promise<void> {
  if (!source.machine) return;
  const link = await source.machine.link();
  await link.sync({ timeoutMs: FLUSH_TIMEOUT_MS });
  const { ram } = memoryPaths(path.join(path.dirname(source.diskPath), "memory"));
  for (const file of [source.diskPath, ram]) await syncFile(file).catch(ignore("a memory that has no file of its own yet"));
}

interface QuietCopy<T> extends Copied<T> {
  /** Whether the freeze held for as long as the copy took. */
  held: boolean;
  /** Whether a running guest's memory was saved for it. */
  savedNow: boolean;
}

async function copyQuiet<T>(
  source: SnapshotSource,
  options: CopyOptions & { begunAtMs: number },
  copy: (files: StateFiles) => Promise<T>,
): Promise<QuietCopy<T>> {
  const files = { diskPath: source.diskPath, memory: source.memory };
  if (!source.machine) {
    const value = await copy(files);
    const savedNow = source.memory !== undefined && source.memory.record.savedAtMs >= options.begunAtMs;
    return { value, pausedMs: 0, savedNow, held: true, release: async () => {} };
  }
  const link = await source.machine.link();
  if (!options.keepStill) {
    // So that the freeze, which flushes what is left, is short. Nobody is held up by that of a guest that will not go on.
    await link.sync({ timeoutMs: FLUSH_TIMEOUT_MS });
    await syncFile(source.diskPath);
  }
  await link.freeze(FREEZE_MS, { timeoutMs: FLUSH_TIMEOUT_MS }).catch(async (error: unknown) => {
    await thaw(link);
    throw error;
  });
  const frozenMs = performance.now();
  let value: T;
  try {
    value = await copy(files);
  } catch (error) {
    await thaw(link);
    throw error;
  }
  if (options.keepStill) {
    // The guest thaws by itself after its time; by then its machine has ended, or it was released.
    return { value, pausedMs: 0, savedNow: false, held: performance.now() - frozenMs < FREEZE_MS, release: () => thaw(link) };
  }
  const { held } = await link.thaw();
  return { value, pausedMs: performance.now() - frozenMs, savedNow: false, held, release: async () => {} };
}

async function thaw(link: GuestLink): Promise<void> {
  await link.thaw().catch(ignore("the guest thaws by itself"));
}
