/**
 * Decides everything about the slots of one home before anything is touched: names, numbers,
 * addresses, ranges. Invariants: every string in a plan is canonical (see address.ts) or made of
 * `[a-z0-9-]`, so it may be put into a command; interface names have at most 15 characters; two
 * homes differ in every name.
 */
import { createHash } from "node:crypto";
import path from "node:path";
import { VmmError } from "../errors.ts";
import {
  formatIpv4,
  formatRange,
  type Ipv4Range,
  rangeContains,
  rangeSize,
  rangesOverlap,
  tryParseIpv4,
  tryParseMac,
  tryParseRange,
} from "./address.ts";
import type { NetworkLayout, NetworkOptions, NetworkSlot } from "./network.ts";
import { isUsableResolver } from "./resolvers.ts";

/** Addresses each slot takes from the range: a /30 for its link. */
const ADDRESSES_PER_SLOT = 4;
/** Four digits fit into an interface name beside the home's hash. */
const SLOTS_MAX = 9999;
const UID_MAX = 2 ** 31 - 1;
const UIDS_PER_HOME = 10_000;
const RESOLVERS_MAX = 8;

/** Ranges tried in this order when none is configured: rarely used ones first. */
export const DEFAULT_SUBNETS: readonly string[] = [
  ...[118, 119, 120, 121, 122, 123].map((second) => `10.${second}.0.0/16`),
  "172.29.0.0/16",
  "172.30.0.0/16",
  "198.18.0.0/16",
  "198.19.0.0/16",
];

/** What no guest may reach unless `allowedPrivate` opens a part of it. */
const PRIVATE_RANGES: readonly string[] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"];
/** What no guest may reach at all; 168.63.129.16 is the platform address of Azure. */
const NEVER_RANGES: readonly string[] = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "168.63.129.16/32",
  "169.254.0.0/16",
  "192.0.0.0/24",
  "198.18.0.0/15",
  "224.0.0.0/4",
  "240.0.0.0/4",
];
export const CLOSED_RANGES: readonly string[] = [...PRIVATE_RANGES, ...NEVER_RANGES].sort();

/** Names inside every slot; the same in all. */
export const MANAGEMENT_TAP = "sprited-mgmt";
export const USER_TAP = "sprited-user";
export const UPLINK = "uplink";

export interface NetworkPlan {
  /** Absolute path of the home. */
  readonly home: string;
  /** 8 hex digits of the home. */
  readonly homeId: string;
  readonly layout: NetworkLayout;
  /** MAC of the host's side of the taps: a resumed guest still has it in its ARP cache. */
  readonly managementMac: string;
  readonly gatewayMac: string;
  /** Ranges to try, in order; one when it was configured. */
  readonly subnets: readonly Ipv4Range[];
  /** Whether the range was chosen by the operator. */
  readonly subnetConfigured: boolean;
  readonly uidBase: number;
  readonly spare: number;
  readonly max: number;
  readonly allowedPrivate: readonly string[];
  readonly resolvers: readonly string[];
  readonly connectionsMax: number;
}

/** Everything that is particular to one slot. */
export interface SlotPlan {
  readonly index: number;
  readonly netns: string;
  /** The host's end of the link. */
  readonly hostLink: string;
  readonly hostAddress: string;
  readonly slotAddress: string;
  readonly uid: number;
  readonly gid: number;
}

/** Checks every option. Throws `VmmError` `vmm_network` that names the setting. `resolvers` must be given. */
export function planNetwork(options: NetworkOptions & { resolvers: readonly string[] }): NetworkPlan {
  if (!path.isAbsolute(options.home)) fail("the home must be an absolute path");
  const layout = checkLayout(options.layout);
  const allowedPrivate = (options.allowedPrivate ?? []).map(checkAllowedPrivate);
  const subnetConfigured = options.subnet !== undefined && options.subnet !== DEFAULT_SUBNETS[0];
  const subnets = (options.subnet === undefined || !subnetConfigured ? DEFAULT_SUBNETS : [options.subnet]).map(checkSubnet);
  const usable = subnets.filter((subnet) => !allowedPrivate.some((range) => rangesOverlap(range, subnet)));
  if (usable.length === 0) fail("network.subnet overlaps with network.allowed_private: choose another range for it");
  const resolvers = options.resolvers.map(checkResolver);
  if (resolvers.length > RESOLVERS_MAX) fail(`network.dns has more than ${RESOLVERS_MAX} entries`);
  const smallest = Math.max(...usable.map((subnet) => subnet.prefixLength));
  const max = checkInteger("the limit of slots", options.max ?? 1000, 1, SLOTS_MAX);
  if (max > rangeSize(smallest) / ADDRESSES_PER_SLOT) {
    fail(`network.subnet is too small for ${max} slots: take a larger range`);
  }
  return {
    home: path.resolve(options.home),
    homeId: createHash("sha256").update(path.resolve(options.home)).digest("hex").slice(0, 8),
    layout,
    managementMac: hostSideMac(layout.management.guestMac),
    gatewayMac: hostSideMac(layout.user.guestMac),
    subnets: usable,
    subnetConfigured,
    uidBase: checkInteger("network.uid_base", options.uidBase ?? 2_000_000, 1000, UID_MAX - DEFAULT_SUBNETS.length * UIDS_PER_HOME),
    spare: checkInteger("network.spare_slots", options.spare ?? 4, 0, max),
    max,
    allowedPrivate: allowedPrivate.map(formatRange),
    resolvers,
    connectionsMax: checkInteger("the limit of connections", options.connectionsMax ?? 16_384, 1, 1_000_000),
  };
}

/** Plans the slot `index` of a range. */
export function planSlot(plan: NetworkPlan, subnet: Ipv4Range, index: number): SlotPlan {
  checkInteger("slot index", index, 0, Math.min(SLOTS_MAX, rangeSize(subnet.prefixLength) / ADDRESSES_PER_SLOT - 1));
  const first = subnet.first + index * ADDRESSES_PER_SLOT;
  // Homes on one host differ in their range; so they do in their users.
  const home = Math.max(0, DEFAULT_SUBNETS.indexOf(formatRange(subnet)));
  const uid = plan.uidBase + home * UIDS_PER_HOME + index;
  return {
    index,
    ...slotNames(plan, index),
    hostAddress: formatIpv4(first + 1),
    slotAddress: formatIpv4(first + 2),
    uid,
    gid: uid,
  };
}

/** What a slot is called on the host. */
export function slotNames(plan: NetworkPlan, index: number): Pick<SlotPlan, "netns" | "hostLink"> {
  return { netns: `sprited-${plan.homeId}-${index}`, hostLink: `${hostLinkPrefix(plan)}${index}` };
}

/** What the names of the host's link ends of this home begin with. */
export function hostLinkPrefix(plan: NetworkPlan): string {
  return `sp${plan.homeId}-`;
}

/** Index of a namespace of this home; undefined for any other name. */
export function slotIndexOf(plan: NetworkPlan, netns: string): number | undefined {
  const match = new RegExp(`^sprited-${plan.homeId}-(0|[1-9][0-9]{0,3})$`).exec(netns);
  return match ? Number(match[1]) : undefined;
}

/** The slot as the rest of the program sees it. */
export function slotOf(plan: NetworkPlan, slot: SlotPlan, netnsDirectory: string): NetworkSlot {
  return {
    index: slot.index,
    netnsPath: path.join(netnsDirectory, slot.netns),
    managementTap: MANAGEMENT_TAP,
    userTap: USER_TAP,
    agentAddress: { host: slot.slotAddress, port: plan.layout.management.port },
    uid: slot.uid,
    gid: slot.gid,
  };
}

/** Why a range cannot be used: what the host has there. */
export interface RangeUse {
  range: Ipv4Range;
  /** `address`: one of the host's own; `route`: the host sends it somewhere. */
  kind: "address" | "route";
  device: string;
}

/**
 * The ranges that can be used, best first. A configured range is refused only when something
 * lies within it: a wider route (a whole 10.0.0.0/8 towards a VPN) is the operator's choice.
 */
export function usableSubnets(plan: NetworkPlan, uses: readonly RangeUse[]): Ipv4Range[] {
  const resolvers = plan.resolvers.map((address) => ({ first: tryParseIpv4(address) ?? 0, prefixLength: 32 }));
  return plan.subnets.filter((subnet) => {
    if (resolvers.some((resolver) => rangeContains(subnet, resolver))) return false;
    return !uses.some((use) => (plan.subnetConfigured ? rangeContains(subnet, use.range) : rangesOverlap(subnet, use.range)));
  });
}

function checkLayout(layout: NetworkLayout): NetworkLayout {
  const { management, user } = layout;
  const managementRange = checkPair("management", management.hostAddress, management.guestAddress, management.prefixLength);
  const userRange = checkPair("user", user.gatewayAddress, user.guestAddress, user.prefixLength);
  if (rangesOverlap(managementRange, userRange)) fail("the management and the user network overlap");
  return {
    management: {
      ...management,
      port: checkInteger("agent port", management.port, 1, 65_535),
      guestMac: tryParseMac(management.guestMac) ?? fail("the management MAC is not a MAC address"),
    },
    user: { ...user, guestMac: tryParseMac(user.guestMac) ?? fail("the user MAC is not a MAC address") },
  };
}

function checkPair(what: string, host: string, guest: string, prefixLength: number): Ipv4Range {
  checkInteger(`${what} prefix length`, prefixLength, 8, 30);
  const range = tryParseRange(`${host}/${prefixLength}`) ?? fail(`the ${what} network's host address is not an IPv4 address`);
  const guestAddress = tryParseRange(guest) ?? fail(`the ${what} network's guest address is not an IPv4 address`);
  if (!rangeContains(range, guestAddress) || host === guest) fail(`the ${what} network's two addresses do not fit together`);
  return range;
}

function hostSideMac(guestMac: string): string {
  const mac = `${guestMac.slice(0, 15)}01`;
  if (mac === guestMac) fail("a guest MAC must not end in 01: that is the host's side");
  return mac;
}

function checkSubnet(text: string): Ipv4Range {
  const range = tryParseRange(text) ?? fail("network.subnet is not a range like 10.118.0.0/16");
  if (range.prefixLength < 8 || range.prefixLength > 28) fail("network.subnet must be between /8 and /28");
  return range;
}

function checkAllowedPrivate(text: string): Ipv4Range {
  const range = tryParseRange(text) ?? fail("an entry of network.allowed_private is not a range like 192.168.1.0/24");
  const isPrivate = PRIVATE_RANGES.some((outer) => rangeContains(tryParseRange(outer) ?? range, range));
  if (!isPrivate) fail(`network.allowed_private may only name parts of ${PRIVATE_RANGES.join(", ")}`);
  return range;
}

function checkResolver(text: string): string {
  const address = tryParseIpv4(text);
  if (address === undefined || !isUsableResolver(address)) {
    return fail("an entry of network.dns is not an IPv4 address that guests can be sent to");
  }
  return formatIpv4(address);
}

function checkInteger(what: string, value: number, min: number, max: number): number {
  if (!Number.isSafeInteger(value) || value < min || value > max) fail(`${what} must be a whole number from ${min} to ${max}`);
  return value;
}

function fail(message: string): never {
  throw new VmmError("vmm_network", message);
}
