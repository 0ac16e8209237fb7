/**
 * What a failed write of the state left half done, finished before the next step begins (LIFE-28).
 *
 * A step stores its outcome last, so a store that takes nothing (a full disk) leaves a transient
 * state beside a machine that has gone further, or a state beside no machine at all. A step that
 * went on from there could start a second machine over the same disk. Nothing was promised to
 * anybody in such a state; while the store still takes nothing, every step throws here.
 */
import { isMemoryWhole } from "../../machine/index.ts";
import { incarnationOf, type SpriteState } from "../lifecycle.ts";
import type { SpriteCore } from "./sprite-core.ts";

const ENDED = "the sprite's machine ended";

/** Brings state and machine together. Afterwards the state is one that requests may meet. */
export async function steady(core: SpriteCore): Promise<void> {
  await core.endRemnant();
  const { state, machine } = core;
  if (state.kind === "deleting" || state.kind === "failed") return;
  const incarnation = incarnationOf(state);
  if (incarnation === undefined) return;
  if (!machine) return await withoutMachine(core, { memoryUnused: true, reason: ENDED });
  switch (state.kind) {
    case "waking":
      core.apply({ type: "woken", incarnation }, { lastRunningAtMs: core.options.nowMs() });
      core.life?.awake(machine);
      return;
    case "pausing":
    case "resuming":
    case "hibernating":
      await machine.pause();
      await machine.forgetSaved();
      core.apply({ type: "paused", incarnation, atMs: core.options.nowMs() });
      return;
    case "stopping":
      await machine.kill();
      core.gone(machine, { code: "vm_lost", reason: ENDED });
      return;
    default:
  }
}

/** Goes from a state that names a machine to the one that needs none. `memoryUnused`: no machine can have begun to run on the kept memory. */
export async function withoutMachine(core: SpriteCore, options: { memoryUnused: boolean; reason: string }): Promise<void> {
  const { state } = core;
  const incarnation = incarnationOf(state);
  if (incarnation === undefined) return;
  const ended = { machineEnded: incarnation };
  if (state.kind !== "waking") {
    core.apply({ type: "vm_gone", incarnation, reason: isLoss(state) ? options.reason : undefined }, ended);
    return;
  }
  const memoryKept =
    state.memory !== undefined && options.memoryUnused && (await isMemoryWhole(core.options.machineSpec().memoryDirectory));
  const reason = state.memory === undefined || memoryKept ? undefined : "the sprite's memory could not be resumed";
  core.apply({ type: "wake_failed", incarnation, memoryKept, reason }, ended);
}

/** Whether the end of a state's VM is something its owner did not ask for. */
function isLoss(state: SpriteState): boolean {
  return !["stopping", "deleting", "failed", "hibernated"].includes(state.kind);
}
