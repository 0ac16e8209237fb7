/**
 * At daemon start: takes over what an earlier daemon left, so that every sprite is in a settled
 * state again (LIFE-10, LIFE-11, LIFE-21). A step towards sleep that was cut off is taken back to
 * `paused`; a resume that was cut off is finished when its VM runs.
 */
import { ignore } from "@sprited/base";
import type { Machine, MachineRecord, MemoryRecord } from "../../machine/index.ts";
import type { SpriteCore } from "./sprite-core.ts";
import { removeStrayMemory } from "./sleep.ts";
import { withoutMachine } from "./steady.ts";
import { lost } from "./wake.ts";

const LOST = "the sprite's machine ended while the server was down";

export async function recover(core: SpriteCore, record: MachineRecord | undefined): Promise<void> {
  const machine = record ? await core.options.machines.adopt(record) : undefined;
  const taken = machine && (await takeOver(core, machine));
  if (!taken) await settle(core, machine);
  await removeStrayMemory(core).catch(ignore("the next wake removes it"));
}

/** Holds a machine whose memory is worth keeping. False: it is not, or it did not come along. */
async function takeOver(core: SpriteCore, machine: Machine): Promise<boolean> {
  const { state } = core;
  const { incarnation } = machine;
  switch (state.kind) {
    case "running":
      core.hold(machine);
      core.life?.awake(machine);
      return true;
    case "pausing":
    case "paused":
    case "resuming":
    case "hibernating":
      try {
        await machine.pause();
        await machine.forgetSaved();
      } catch (error) {
        lost(core, "the sprite's machine could not be taken over", error);
        return false;
      }
      core.hold(machine);
      core.apply({ type: "paused", incarnation, atMs: core.options.nowMs() });
      return true;
    case "waking":
      // One that boots may never have got its key; no command was accepted yet, so it can go.
      if (state.memory === undefined) return false;
      return await finishResume(core, machine, state.memory);
    default:
      return false;
  }
}

async function finishResume(core: SpriteCore, machine: Machine, memory: MemoryRecord): Promise<boolean> {
  try {
    await machine.resume(core.options.machineSpec(), { memory });
  } catch (error) {
    lost(core, "the sprite's memory could not be resumed", error);
    return false;
  }
  core.hold(machine);
  core.apply({ type: "woken", incarnation: machine.incarnation }, { lastRunningAtMs: core.options.nowMs() });
  core.life?.awake(machine);
  return true;
}

/** Ends what is left of a machine and goes to the state that needs none. */
async function settle(core: SpriteCore, machine: Machine | undefined): Promise<void> {
  await machine?.kill();
  await withoutMachine(core, { memoryUnused: machine === undefined, reason: LOST });
}
