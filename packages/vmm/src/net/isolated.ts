/**
 * Slots whose VMs reach nobody: the user's NIC ends in a tap of its own that has no addresses, no
 * route and no rule. For VMs that run a copy of somebody's processes for trial.
 *
 * Invariant: the slot below is as it was when it is given back; the tap is gone by then. What a
 * killed daemon leaves goes with the slot's namespace.
 */
import { run } from "@sprited/base";
import type { NetworkSlot, NetworkSlots } from "./network.ts";

/** Name of the tap inside the slot's namespace. */
const VOID_TAP = "void0";
const COMMAND_TIMEOUT_MS = 20_000;

export function isolatedSlots(slots: NetworkSlots): NetworkSlots {
  const below = new WeakMap<NetworkSlot, NetworkSlot>();
  return {
    async acquire(options) {
      const slot = await slots.acquire(options);
      try {
        const owner = ["user", String(slot.uid), "group", String(slot.gid)];
        await inside(slot, ["ip", "tuntap", "add", "dev", VOID_TAP, "mode", "tap", ...owner]);
        await inside(slot, ["ip", "link", "set", VOID_TAP, "up"]);
      } catch (error) {
        await slots.release(slot);
        throw error;
      }
      const isolated: NetworkSlot = { ...slot, userTap: VOID_TAP };
      below.set(isolated, slot);
      return isolated;
    },
    async release(isolated) {
      const slot = below.get(isolated);
      if (!slot) return;
      below.delete(isolated);
      await inside(slot, ["ip", "link", "del", "dev", VOID_TAP]);
      await slots.release(slot);
    },
    // Such VMs are never taken over: the next daemon ends them.
    adopt: async () => undefined,
    close: async () => {},
  };
}

async function inside(slot: NetworkSlot, command: readonly string[]): Promise<void> {
  await run("nsenter", [`--net=${slot.netnsPath}`, ...command], { timeoutMs: COMMAND_TIMEOUT_MS });
}
