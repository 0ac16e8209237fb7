/**
 * How a sprite goes to sleep with its memory (LIFE-14 to LIFE-18). Each step can be taken back
 * until the memory is safe: the VM is ended only after files and record are durable.
 */
import { ignore } from "@sprited/base";
import { type Machine, removeMemory } from "../../machine/index.ts";
import type { SpriteCore } from "./sprite-core.ts";
import { steady } from "./steady.ts";
import { rouse } from "./wake.ts";

/** Longest wait until the guest's processes stand still and its disk is flushed, ms; without that a later loss of the memory costs more. */
const REST_TIMEOUT_MS = 5_000;

export interface SleepOptions {
  /** `paused`: the vCPUs stop, the RAM stays; `hibernated`: the memory goes into files, the VM ends. */
  depth: "paused" | "hibernated";
  /** Asked again and again: whether the sprite may still go on falling asleep. */
  wanted(): boolean;
}

/** Goes as deep as asked. A sleep that fails leaves the sprite as awake as it still is, and throws. */
export async function sleep(core: SpriteCore, options: SleepOptions): Promise<void> {
  await steady(core);
  if (!core.admits(options.depth === "paused" ? "pause" : "hibernate")) return;
  const before = core.state.kind;
  if (core.state.kind === "running") await pause(core, options);
  if (options.depth === "hibernated" && core.state.kind === "paused" && options.wanted()) await hibernate(core, options);
  const after = core.state.kind;
  if (after !== before && (after === "paused" || after === "hibernated")) core.options.observe?.({ kind: "slept", depth: after });
}

async function pause(core: SpriteCore, options: SleepOptions): Promise<void> {
  if (core.machine && options.wanted()) await stand(core, core.machine, { sync: true, wanted: options.wanted });
}

/**
 * Stops the guest's processes, then its vCPUs. The processes go on only after a bootstrap, so that
 * none of them sees the time or the randomness of before; a step that fails ends in one.
 */
export async function stand(core: SpriteCore, machine: Machine, options: { sync: boolean; wanted(): boolean }): Promise<void> {
  const { incarnation } = machine;
  const signal = AbortSignal.timeout(REST_TIMEOUT_MS);
  core.apply({ type: "pause_begun", incarnation });
  core.life?.asleep();
  try {
    await machine
      .link({ signal })
      .then((link) => link.rest({ sync: options.sync }, { signal, timeoutMs: REST_TIMEOUT_MS }))
      .catch(ignore("they stand still with the machine, and what is not on the disk stays in memory"));
    if (!options.wanted()) return void (await rouse(core, new AbortController().signal));
    await machine.pause();
  } catch (error) {
    await rouse(core, new AbortController().signal);
    throw error;
  }
  core.apply({ type: "paused", incarnation, atMs: core.options.nowMs() });
}

async function hibernate(core: SpriteCore, options: SleepOptions): Promise<void> {
  const { machine } = core;
  if (!machine) return;
  const { incarnation } = machine;
  const { nowMs, logger, spriteId } = core.options;
  const spec = core.options.machineSpec();
  const startedMs = nowMs();
  core.apply({ type: "hibernate_begun", incarnation });
  const takeBack = async (): Promise<void> => {
    await machine.forgetSaved();
    core.apply({ type: "paused", incarnation, atMs: nowMs() });
  };
  let memory;
  try {
    memory = await machine.saveMemory(spec);
  } catch (error) {
    await takeBack();
    throw error;
  }
  if (!options.wanted()) return await takeBack();
  core.apply({ type: "hibernated", incarnation, memory });
  core.machine = undefined;
  core.remnant = machine;
  await core.endRemnant();
  logger.info({ event: "sprite.hibernate", outcome: "ok", spriteId, incarnation, durationMs: nowMs() - startedMs }, "hibernated");
}

/** Removes the files of a memory that is not this state's. */
export async function removeStrayMemory(core: SpriteCore): Promise<void> {
  if (core.state.kind === "cold") await removeMemory(core.options.machineSpec().memoryDirectory);
}
