/**
 * What is done on the host's side, as text for `nft`. Pure.
 *
 * Invariants: one table per home holds everything and looks only at this home's links (by the
 * prefix of their names), so that nothing else on the host is touched; it repeats what the slots
 * enforce, so that a slot with broken rules opens nothing. The range of a home is claimed by a
 * table whose name is the range: making it succeeds for one home only.
 */
import { z } from "zod";
import { formatRange, type Ipv4Range, tryParseRange } from "./address.ts";
import type { RangeUse } from "./plan.ts";
import { CLOSED_RANGES, hostLinkPrefix, type NetworkPlan } from "./plan.ts";
import { set } from "./slot-setup.ts";

export function hostTable(plan: NetworkPlan): string {
  return `sprited_${plan.homeId}`;
}

/** `nft` on the host; replaces the home's table in one transaction. */
export function hostRules(plan: NetworkPlan, subnet: Ipv4Range): string {
  const links = `"${hostLinkPrefix(plan)}*"`;
  const table = hostTable(plan);
  const dns = `ip daddr @resolvers meta l4proto { tcp, udp } th dport 53`;
  return `table inet ${table}
delete table inet ${table}
table inet ${table} {
${set("allowed_private", plan.allowedPrivate)}
${set("closed", CLOSED_RANGES)}
${set("resolvers", plan.resolvers)}
  chain prerouting {
    type filter hook prerouting priority mangle; policy accept;
    iifname != ${links} accept
    meta nfproto != ipv4 drop
    fib saddr . iif oif 0 drop
    ct state established,related accept
    ${dns} accept
    fib daddr type local meta l4proto tcp reject with tcp reset
    fib daddr type local reject with icmpx admin-prohibited
    fib daddr type != unicast drop
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname != ${links} accept
    meta nfproto != ipv4 drop
    ct state established,related accept
    ${dns} accept
    drop
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    oifname ${links} jump to_slot
    iifname ${links} jump from_slot
  }
  chain to_slot {
    iifname ${links} drop
    ct state established,related accept
    drop
  }
  chain from_slot {
    meta nfproto != ipv4 drop
    tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
    ct state established,related accept
    ${dns} accept
    ip daddr @allowed_private accept
    ip daddr @closed drop
    accept
  }
  chain output {
    type filter hook output priority filter; policy accept;
    oifname != ${links} accept
    meta nfproto != ipv4 drop
    ct state established,related accept
    tcp dport ${plan.layout.management.port} accept
    drop
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${formatRange(subnet)} oifname != ${links} masquerade
  }
}
`;
}

/** `nft` that removes the table; also when it is not there. */
export function removeTable(table: string): string {
  return `table inet ${table}\ndelete table inet ${table}\n`;
}

const CLAIM = /^sprited_range_([0-9]+)_([0-9]+)_([0-9]+)_([0-9]+)_([0-9]+)$/;

/** Name of the table that claims a range on this host. */
export function claimTable(subnet: Ipv4Range): string {
  return `sprited_range_${formatRange(subnet).replaceAll(/[./]/g, "_")}`;
}

/** `nft` that claims a range; fails when another home has it. */
export function claimRules(plan: NetworkPlan, subnet: Ipv4Range): string {
  const table = claimTable(subnet);
  return `create table inet ${table}\nadd chain inet ${table} home_${plan.homeId}\n`;
}

/** A range that a home on this host has claimed. */
export interface RangeClaim {
  subnet: Ipv4Range;
  homeId: string;
}

const chainsSchema = z.object({
  nftables: z.array(
    z
      .object({
        chain: z.object({ family: z.string(), table: z.string(), name: z.string() }).loose().optional(),
      })
      .loose(),
  ),
});

/** Reads the claims out of `nft -j list chains`. */
export function readClaims(json: unknown): RangeClaim[] {
  return chainsSchema.parse(json).nftables.flatMap(({ chain }) => {
    const parts = CLAIM.exec(chain?.table ?? "");
    const subnet = parts ? tryParseRange(`${parts.slice(1, 5).join(".")}/${parts[5]}`) : undefined;
    if (!chain || !subnet || !/^home_[0-9a-f]{8}$/.test(chain.name)) return [];
    return [{ subnet, homeId: chain.name.slice("home_".length) }];
  });
}

/** Whether the home's table is among `nft -j list chains`. */
export function hasHostTable(plan: NetworkPlan, json: unknown): boolean {
  return chainsSchema.parse(json).nftables.some(({ chain }) => chain?.family === "inet" && chain.table === hostTable(plan));
}

const addressesSchema = z.array(
  z.object({ ifname: z.string(), addr_info: z.array(z.object({ local: z.string(), prefixlen: z.int() }).loose()) }).loose(),
);
const routesSchema = z.array(z.object({ dst: z.string(), dev: z.string().optional(), type: z.string().optional() }).loose());

/**
 * What the host uses already, from `ip -j -4 addr show` and `ip -j -4 route show table all`.
 * Links of this home do not count.
 */
export function readRangeUses(plan: NetworkPlan, addresses: unknown, routes: unknown): RangeUse[] {
  const own = (device: string): boolean => device.startsWith(hostLinkPrefix(plan));
  const uses: RangeUse[] = [];
  for (const link of addressesSchema.parse(addresses)) {
    for (const { local, prefixlen } of link.addr_info) {
      const range = tryParseRange(`${local}/${prefixlen}`);
      if (range && !own(link.ifname)) uses.push({ range, kind: "address", device: link.ifname });
    }
  }
  for (const route of routesSchema.parse(routes)) {
    const range = route.dst === "default" ? undefined : tryParseRange(route.dst);
    if (range && range.prefixLength > 0 && !own(route.dev ?? "")) {
      uses.push({ range, kind: "route", device: route.dev ?? route.type ?? "unknown" });
    }
  }
  return uses;
}
