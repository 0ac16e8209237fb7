/**
 * Takes back the networks of homes that are gone: without this a home that was deleted instead of
 * closed would hold its range of addresses until the host boots.
 *
 * Invariants: nothing is touched of a home that exists, of one whose process lives, or of one in
 * whose slots a process still runs; what cannot be removed is kept with its record, and tried again
 * by whoever starts next.
 */
import { type Logger, silentLogger } from "@sprited/base";
import { findSlots, occupiedSlots, removeSlots } from "./builder.ts";
import { findGoneHomes, type HomeRecord } from "./home-records.ts";
import { leaveHost } from "./host.ts";
import type { NetworkLayout } from "./network.ts";
import { planNetwork } from "./plan.ts";

/** Removes the networks of homes that are gone; resolves with the paths of those homes. Needs root. */
export async function removeNetworksOfGoneHomes(options: { layout: NetworkLayout; log?: Logger }): Promise<string[]> {
  const log = options.log ?? silentLogger;
  const removed: string[] = [];
  for (const record of await findGoneHomes()) {
    try {
      if (await removeNetwork(record, options.layout, log)) removed.push(record.home);
    } catch (error) {
      log.warn({ event: "gone_home_kept", home: record.home, err: error }, "the network of a home that is gone could not be removed");
    }
  }
  return removed;
}

async function removeNetwork(record: HomeRecord, layout: NetworkLayout, log: Logger): Promise<boolean> {
  const plan = planNetwork({ home: record.home, layout, resolvers: [] });
  // A record under another home's id is nothing to judge by.
  if (plan.homeId !== record.homeId) return false;
  const slots = await findSlots(plan);
  const occupied = await occupiedSlots(plan, slots);
  if (occupied.length > 0) {
    log.warn(
      { event: "gone_home_occupied", home: record.home, slots: occupied },
      "a home is gone, but processes still run in its network: it is left alone",
    );
    return false;
  }
  await removeSlots(plan, slots);
  await leaveHost(plan);
  log.warn({ event: "gone_home_removed", home: record.home, slots }, "removed the network of a home that is gone");
  return true;
}
