/**
 * Test homes whose test process was killed: their daemons and VMs run on, as daemons and VMs do.
 * The next run ends them.
 */
import fs from "node:fs/promises";
import path from "node:path";
import { MANAGEMENT_NETWORK, USER_NETWORK } from "@sprited/protocol/guest";
import { removeNetworksOfGoneHomes } from "@sprited/vmm";
import { sweepHost } from "./host-traces.ts";
import { describeHome, findPreparedHome, OWNER_FILE, processIdentity, TEST_HOMES } from "./prepared-home.ts";

/** Ends everything of every test home whose owner is gone, and removes the home. */
export async function sweepAbandonedHomes(): Promise<void> {
  const prepared = findPreparedHome();
  if ("missing" in prepared) return;
  const shelf = path.join(prepared.layout.pool, TEST_HOMES);
  for (const name of await fs.readdir(shelf).catch(() => [])) {
    const root = path.join(shelf, name);
    const owner = await fs.readFile(path.join(root, OWNER_FILE), "utf8").catch(() => "");
    if (owner === "" || (await processIdentity(Number(owner.split(" ")[0]))) === owner) continue;
    await sweepHost(describeHome(root));
    await fs.rm(root, { recursive: true, force: true });
  }
  // Of homes that somebody removed without ending what they held.
  if (process.getuid?.() === 0) await removeNetworksOfGoneHomes({ layout: { management: MANAGEMENT_NETWORK, user: USER_NETWORK } });
}
