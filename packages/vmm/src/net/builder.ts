/**
 * Makes, mends and removes slots with `ip`, `sysctl` and `nft`: two processes for a batch of
 * slots and three for each of its slots. Knows nothing of which slot is free or taken.
 *
 * Invariants: `make` leaves nothing behind when it fails; a removed slot keeps no state for the
 * next user of its number (connections, neighbours and taps go with the namespace).
 */
import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import path from "node:path";
import { ignore, type Logger, run, waitFor } from "@sprited/base";
import { VmmError } from "../errors.ts";
import { formatRange, type Ipv4Range } from "./address.ts";
import { COMMAND_TIMEOUT_MS, type HostNetwork } from "./host.ts";
import { nftArguments } from "./nft.ts";
import type { NetworkProblem, NetworkSlot } from "./network.ts";
import { hostLinkPrefix, type NetworkPlan, planSlot, slotIndexOf, slotNames, slotOf, type SlotPlan, UPLINK } from "./plan.ts";
import { linkBatch, namespaceBatch, readSlotLinks, slotRules, slotSysctls, tapBatch, uplinkBatch } from "./slot-setup.ts";
import type { SlotBuilder } from "./slots.ts";

/** Where `ip netns` keeps its namespaces. */
export const NETNS_DIRECTORY = "/run/netns";
/** Slots of a batch that are worked on at the same time; the kernel's own lock allows little more. */
const PARALLEL_SLOTS = 4;
/** How long the kernel may take to remove a namespace's links before they are removed by name, `ms`. */
const LINKS_GONE_TIMEOUT_MS = 2_000;

export class HostSlotBuilder implements SlotBuilder {
  readonly #plan: NetworkPlan;
  readonly #host: HostNetwork;
  readonly #subnet: Ipv4Range;
  readonly #log: Logger;

  constructor(plan: NetworkPlan, host: HostNetwork, log: Logger) {
    this.#plan = plan;
    this.#host = host;
    this.#subnet = host.subnet;
    this.#log = log;
  }

  get problems(): readonly NetworkProblem[] {
    return this.#host.problems;
  }

  describe(index: number): NetworkSlot {
    return slotOf(this.#plan, this.#slot(index), NETNS_DIRECTORY);
  }

  async make(indices: readonly number[]): Promise<void> {
    const slots = indices.map((index) => this.#slot(index));
    const refreshed = this.#host.refresh();
    refreshed.catch(ignore("awaited below"));
    try {
      await ipBatch(namespaceBatch(slots) + linkBatch(slots));
      await inParallel(slots, async (slot) => this.#furnish(slot));
      await refreshed;
    } catch (cause) {
      await this.remove(indices).catch((error: unknown) => {
        this.#log.error({ event: "slot_remove_failed", indices, err: error }, "could not remove half-made network slots");
      });
      throw new VmmError("vmm_network", "the host refused to make a network slot; `sprited doctor` checks what it needs", { cause });
    }
  }

  async remove(indices: readonly number[]): Promise<void> {
    await removeSlots(this.#plan, indices);
  }

  async repair(index: number): Promise<boolean> {
    const slot = this.#slot(index);
    if (!(await listNamespaces()).includes(slot.netns)) return false;
    const links = await run("ip", ["-n", slot.netns, "-d", "-j", "link", "show"], { timeoutMs: COMMAND_TIMEOUT_MS }).then(
      (result) => readSlotLinks(this.#plan, slot, JSON.parse(result.stdout)),
      (error: unknown) => {
        this.#log.warn({ event: "slot_unreadable", index, err: error }, "a network slot cannot be read");
        return undefined;
      },
    );
    // A VMM holds its taps open: when they are gone, so is the VM's network, and nothing brings it back.
    if (!links?.taps) return false;
    const hasAddress = networkInterfaces()[slot.hostLink]?.some((address) => address.address === slot.hostAddress) ?? false;
    if (!hasAddress || !links.uplink) await this.#relink(slot, links.uplink);
    await inNamespace(slot, "nft", nftArguments(slotRules(this.#plan, formatRange(this.#subnet))));
    return true;
  }

  async occupied(indices: readonly number[]): Promise<number[]> {
    return await occupiedSlots(this.#plan, indices);
  }

  async refresh(): Promise<void> {
    await this.#host.refresh();
  }

  async leave(): Promise<void> {
    await this.#host.leave();
  }

  #slot(index: number): SlotPlan {
    return planSlot(this.#plan, this.#subnet, index);
  }

  async #furnish(slot: SlotPlan): Promise<void> {
    await inNamespace(slot, "sysctl", ["-e", "-q", "-w", ...slotSysctls()]);
    await ipBatch(tapBatch(this.#plan, slot) + uplinkBatch(slot), ["-n", slot.netns]);
    await inNamespace(slot, "nft", nftArguments(slotRules(this.#plan, formatRange(this.#subnet))));
  }

  async #relink(slot: SlotPlan, hasUplink: boolean): Promise<void> {
    this.#log.warn({ event: "slot_relinked", index: slot.index }, "the link of a network slot was damaged: making it anew");
    if ((await listLinks()).includes(slot.hostLink)) await ipBatch(`link del dev ${slot.hostLink}\n`);
    else if (hasUplink) await ipBatch(`link del dev ${UPLINK}\n`, ["-n", slot.netns]);
    await ipBatch(linkBatch([slot]));
    await inNamespace(slot, "sysctl", ["-e", "-q", "-w", ...slotSysctls()]);
    await ipBatch(uplinkBatch(slot), ["-n", slot.netns]);
  }
}

/** Numbers of all slots of this home that the host knows of, whole or not. */
export async function findSlots(plan: NetworkPlan): Promise<number[]> {
  const prefix = hostLinkPrefix(plan);
  const fromLinks = (await listLinks())
    .filter((link) => link.startsWith(prefix))
    .map((link) => `sprited-${plan.homeId}-${link.slice(prefix.length)}`);
  const indices = [...(await listNamespaces()), ...fromLinks].map((name) => slotIndexOf(plan, name));
  return [...new Set(indices.filter((index) => index !== undefined))].sort((a, b) => a - b);
}

/** Removes slots by their names, also half-made ones and those already gone. */
export async function removeSlots(plan: NetworkPlan, indices: readonly number[]): Promise<void> {
  const slots = indices.map((index) => slotNames(plan, index));
  const present = new Set(await listNamespaces());
  const doomed = slots.filter((slot) => present.has(slot.netns));
  if (doomed.length > 0) await ipBatch(doomed.map((slot) => `netns del ${slot.netns}\n`).join(""));
  const wanted = new Set(slots.map((slot) => slot.hostLink));
  const leftovers = async (): Promise<string[]> => (await listLinks()).filter((link) => wanted.has(link));
  // The kernel removes a namespace in the background, with its links; by name each costs 30 ms.
  await waitFor(
    "links of removed network slots",
    { timeoutMs: LINKS_GONE_TIMEOUT_MS, everyMs: 20 },
    async () => (await leftovers()).length === 0,
  ).catch(async () => {
    const links = await leftovers();
    if (links.length > 0) await ipBatch(links.map((link) => `link del dev ${link}\n`).join(""));
  });
}

/** Those in which a process runs. */
export async function occupiedSlots(plan: NetworkPlan, indices: readonly number[]): Promise<number[]> {
  if (indices.length === 0) return [];
  const used = await listProcessNamespaces();
  const result: number[] = [];
  for (const index of indices) {
    const inode = await stat(path.join(NETNS_DIRECTORY, slotNames(plan, index).netns)).then(
      (info) => info.ino,
      () => undefined,
    );
    if (inode !== undefined && used.has(inode)) result.push(index);
  }
  return result;
}

async function ipBatch(commands: string, where: readonly string[] = []): Promise<void> {
  await run("ip", [...where, "-batch", "-"], { input: commands, timeoutMs: COMMAND_TIMEOUT_MS });
}

async function inNamespace(slot: SlotPlan, program: string, args: readonly string[]): Promise<void> {
  await run("nsenter", [`--net=${path.join(NETNS_DIRECTORY, slot.netns)}`, "--", program, ...args], { timeoutMs: COMMAND_TIMEOUT_MS });
}

/** Runs `work` for each, a few at a time; waits for all before it throws the first error. */
async function inParallel(slots: readonly SlotPlan[], work: (slot: SlotPlan) => Promise<void>): Promise<void> {
  const queue = [...slots];
  const lanes = Array.from({ length: PARALLEL_SLOTS }, async () => {
    for (let slot = queue.shift(); slot !== undefined; slot = queue.shift()) await work(slot);
  });
  const results = await Promise.allSettled(lanes);
  const failed = results.find((result) => result.status === "rejected");
  if (failed) throw failed.reason;
}

async function listNamespaces(): Promise<string[]> {
  return readdir(NETNS_DIRECTORY).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
}

/** Names of all links of this namespace, also those that are down. */
async function listLinks(): Promise<string[]> {
  const text = await readFile("/proc/net/dev", "utf8");
  return text
    .split("\n")
    .slice(2)
    .map((line) => line.split(":")[0]?.trim() ?? "")
    .filter((name) => name !== "");
}

/** Inodes of the network namespaces that processes of this host run in. */
async function listProcessNamespaces(): Promise<Set<number>> {
  const inodes = new Set<number>();
  for (const entry of await readdir("/proc")) {
    if (!/^[0-9]+$/.test(entry)) continue;
    // A process may end between the listing and the look.
    const target = await readlink(`/proc/${entry}/ns/net`).catch(() => "");
    const inode = /^net:\[([0-9]+)\]$/.exec(target)?.[1];
    if (inode !== undefined) inodes.add(Number(inode));
  }
  return inodes;
}
