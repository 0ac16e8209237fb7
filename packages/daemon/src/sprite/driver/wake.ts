/**
 * How a sprite comes to run: a paused machine goes on, a hibernated memory is resumed, a cold disk
 * is booted. A memory that cannot be resumed is given up with its reason and the disk is booted
 * instead (LIFE-19); nothing is ever resumed twice.
 */
import type { Machine, MachineRecord, MemoryRecord } from "../../machine/index.ts";
import { isMemoryWhole, removeMemory } from "../../machine/index.ts";
import { assert } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import { VmmError } from "@sprited/vmm";
import { incarnationOf } from "../lifecycle.ts";
import type { WakeKind } from "../machine-event.ts";
import { settleReplacement } from "./replace.ts";
import type { SpriteCore } from "./sprite-core.ts";
import { steady } from "./steady.ts";

const NOT_RESUMED = "the sprite's memory could not be resumed";

/** The running machine. Throws when it cannot be had; the state is legal then, and the next call tries again (LIFE-3). */
export async function wake(core: SpriteCore, signal: AbortSignal): Promise<Machine> {
  if (!core.admits("wake") && core.machine) return core.machine;
  signal.throwIfAborted();
  const startedMs = core.options.nowMs();
  await steady(core);
  const before = core.state.kind;
  let kind: WakeKind = before === "paused" || before === "hibernated" ? before : "cold";
  let machine: Machine;
  try {
    const back = await comeBack(core, signal);
    if (!back) kind = "cold";
    machine = back ?? (await boot(core, signal));
  } catch (error) {
    if (!signal.aborted) core.options.observe?.({ kind: "wake_failed", wake: kind });
    throw error;
  }
  core.options.observe?.({ kind: "woken", wake: kind, durationMs: core.options.nowMs() - startedMs });
  core.options.touched?.();
  core.options.logger.info(
    {
      event: "sprite.wake",
      outcome: "ok",
      spriteId: core.options.spriteId,
      incarnation: machine.incarnation,
      from: before,
      durationMs: core.options.nowMs() - startedMs,
    },
    "woken",
  );
  return machine;
}

/** The machine with the memory that was kept; undefined when there is none, or none any more. */
export async function comeBack(core: SpriteCore, signal: AbortSignal): Promise<Machine | undefined> {
  await settleReplacement(core);
  await steady(core);
  const { state } = core;
  if (state.kind === "paused") return await rouse(core, signal);
  if (state.kind === "hibernated") return await resumeMemory(core, state.memory, signal);
  return core.machine && state.kind === "running" ? core.machine : undefined;
}

/** Lets a paused machine go on. One that does not come back is ended. */
export async function rouse(core: SpriteCore, signal: AbortSignal): Promise<Machine | undefined> {
  const { machine } = core;
  if (!machine) return undefined;
  const { incarnation } = machine;
  core.apply({ type: "resume_begun", incarnation });
  try {
    await machine.resume(core.options.machineSpec(), { signal });
  } catch (error) {
    lost(core, "the sprite's machine did not come back from its pause", error);
    await machine.kill();
    core.gone(machine, { code: "vm_lost", reason: "the sprite's machine did not come back from its pause" });
    signal.throwIfAborted();
    return undefined;
  }
  core.apply({ type: "woken", incarnation }, { lastRunningAtMs: core.options.nowMs() });
  core.life?.awake(machine);
  return machine;
}

async function resumeMemory(core: SpriteCore, memory: MemoryRecord, signal: AbortSignal): Promise<Machine | undefined> {
  const spec = core.options.machineSpec();
  const problem = (await isMemoryWhole(spec.memoryDirectory))
    ? await core.options.machines.memoryProblem(memory, spec)
    : "its files are missing";
  if (problem !== undefined) {
    await dropMemory(core, `the sprite's memory cannot be resumed: ${problem}`);
    return undefined;
  }
  try {
    return await start(core, signal, memory);
  } catch (error) {
    // Anything else has a memory, or a machine, that a boot would run over.
    if (core.state.kind !== "cold") throw error;
    signal.throwIfAborted();
    return undefined;
  }
}

/** Gives up the memory of a hibernated sprite; its disk stays. */
export async function dropMemory(core: SpriteCore, reason: string | undefined): Promise<void> {
  if (reason !== undefined) lost(core, reason, undefined);
  core.apply({ type: "memory_dropped", reason });
  await removeMemory(core.options.machineSpec().memoryDirectory);
}

async function boot(core: SpriteCore, signal: AbortSignal): Promise<Machine> {
  await removeMemory(core.options.machineSpec().memoryDirectory);
  return await start(core, signal, undefined);
}

async function start(core: SpriteCore, signal: AbortSignal, memory: MemoryRecord | undefined): Promise<Machine> {
  const { machines, spriteId, nowMs } = core.options;
  using _turn = await core.options.startTurn?.(signal);
  const spec = core.options.machineSpec();
  const room = await core.options.admit?.(signal);
  let record: MachineRecord;
  try {
    record = await machines.plan(spriteId, { signal });
    try {
      core.apply({ type: "wake_begun", incarnation: record.incarnation }, { machineBegun: record });
      assert(incarnationOf(core.state) === record.incarnation, "a machine is started only under a state that names it");
    } catch (error) {
      await machines.forget(record);
      throw error;
    }
  } finally {
    room?.[Symbol.dispose]();
  }
  const { incarnation } = record;
  let machine: Machine;
  try {
    machine = await machines.start(record, spec, { signal, memory });
  } catch (error) {
    // One that no VM can ever take fails the next time too.
    const isUsable = !(error instanceof VmmError) || error.code !== "vmm_snapshot_unusable";
    const memoryKept = memory !== undefined && isUsable && (await isMemoryWhole(spec.memoryDirectory));
    const reason = memory === undefined || memoryKept ? undefined : NOT_RESUMED;
    if (reason !== undefined) lost(core, reason, error);
    core.apply({ type: "wake_failed", incarnation, memoryKept, reason }, { machineEnded: incarnation });
    throw error;
  }
  core.hold(machine);
  core.apply({ type: "woken", incarnation }, { lastRunningAtMs: nowMs() });
  core.life?.awake(machine);
  return machine;
}

export function lost(core: SpriteCore, reason: string, error: unknown): void {
  core.options.observe?.({ kind: "memory_lost" });
  core.options.logger.warn(
    {
      event: "sprite.memory_lost",
      spriteId: core.options.spriteId,
      life: core.life?.id,
      reason,
      ...(error === undefined ? {} : { err: error }),
    },
    "the memory is lost, the disk is kept",
  );
}

/** What a request that came too late is told. */
export function deletedWhileWaking(): ApiError {
  return new ApiError("sprite_not_found", "the sprite was deleted while it was waking");
}
