/**
 * What is done inside a slot's namespace, as text for `ip -batch`, `sysctl` and `nft`. Pure.
 *
 * ```
 *  guest (root ns)  ──NIC── sprited-mgmt 192.168.127.1 ┐                       ┌ spHHHHHHHH-N (host)
 *                                                      ├ netns ── uplink ══════╡
 *  guest (user ns)  ──NIC── sprited-user 10.117.0.1  ──┘                       └ a.b.c.d/30 per slot
 * ```
 *
 * Invariants: apart from the uplink's address and the owner of the taps every slot is the same;
 * the rules are replaced in one transaction; a slot is handed out only after its rules are in.
 * Order: `namespaceBatch`, `linkBatch`,
 * `slotSysctls` (taps copy them), `tapBatch`, `uplinkBatch`, `slotRules` (they name taps).
 */
import { z } from "zod";
import { CLOSED_RANGES, MANAGEMENT_TAP, type NetworkPlan, type SlotPlan, UPLINK, USER_TAP } from "./plan.ts";

/** Settings of the namespace, as arguments of `sysctl -w`. */
export function slotSysctls(): string[] {
  const interfaces = ["all", "default", UPLINK].flatMap((scope) => [
    `net.ipv6.conf.${scope}.disable_ipv6=1`,
    `net.ipv4.conf.${scope}.rp_filter=1`,
    `net.ipv4.conf.${scope}.accept_redirects=0`,
    `net.ipv4.conf.${scope}.send_redirects=0`,
    `net.ipv4.conf.${scope}.accept_source_route=0`,
    `net.ipv4.conf.${scope}.route_localnet=0`,
    `net.ipv4.conf.${scope}.proxy_arp=0`,
    `net.ipv4.conf.${scope}.arp_ignore=1`,
    // A guest that sends from impossible addresses must not fill the host's kernel log.
    `net.ipv4.conf.${scope}.log_martians=0`,
  ]);
  return [
    "net.ipv4.ip_forward=1",
    "net.ipv4.icmp_echo_ignore_broadcasts=1",
    // `ms` between two refusals by ICMP; at the default of a second most would look like silence.
    "net.ipv4.icmp_ratelimit=10",
    ...interfaces,
  ];
}

/** `ip -batch` on the host: namespaces. */
export function namespaceBatch(slots: readonly SlotPlan[]): string {
  return lines(slots.map((slot) => `netns add ${slot.netns}`));
}

/** `ip -batch` on the host: the links between the host and the slots. */
export function linkBatch(slots: readonly SlotPlan[]): string {
  return lines(
    slots.flatMap((slot) => [
      `link add ${slot.hostLink} type veth peer name ${UPLINK} netns ${slot.netns}`,
      `addr add ${slot.hostAddress}/30 dev ${slot.hostLink}`,
      `link set dev ${slot.hostLink} up`,
    ]),
  );
}

/** `ip -batch` in the namespace: the two taps, owned by the slot's user. */
export function tapBatch(plan: NetworkPlan, slot: SlotPlan): string {
  const { management, user } = plan.layout;
  const tap = (name: string, mac: string, address: string, guest: { address: string; mac: string }): string[] => [
    `tuntap add dev ${name} mode tap user ${slot.uid} group ${slot.gid}`,
    `link set dev ${name} address ${mac}`,
    `addr add ${address} dev ${name}`,
    `link set dev ${name} up`,
    // The guest's address is known: no ARP question before the first packet, no ARP answer to trust.
    `neigh replace ${guest.address} lladdr ${guest.mac} dev ${name} nud permanent`,
  ];
  return lines([
    "link set dev lo up",
    ...tap(MANAGEMENT_TAP, plan.managementMac, `${management.hostAddress}/${management.prefixLength}`, {
      address: management.guestAddress,
      mac: management.guestMac,
    }),
    ...tap(USER_TAP, plan.gatewayMac, `${user.gatewayAddress}/${user.prefixLength}`, {
      address: user.guestAddress,
      mac: user.guestMac,
    }),
  ]);
}

/** `ip -batch` in the namespace: the way out. */
export function uplinkBatch(slot: SlotPlan): string {
  return lines([
    `addr replace ${slot.slotAddress}/30 dev ${UPLINK}`,
    `link set dev ${UPLINK} up`,
    `route replace default via ${slot.hostAddress}`,
  ]);
}

/** `nft` in the namespace; replaces what was there. `subnet` is the range of all slots of this home. */
export function slotRules(plan: NetworkPlan, subnet: string): string {
  return `table inet sprited
delete table inet sprited
table netdev sprited
delete table netdev sprited
${wireTable(plan)}
table inet sprited {
${set("allowed_private", plan.allowedPrivate)}
${set("closed", CLOSED_RANGES)}
${natChains(plan)}
  chain refuse {
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    meta nfproto != ipv4 drop
    iifname "${USER_TAP}" jump stray
    ct state invalid drop
    ct state established,related accept
    iifname "${UPLINK}" oifname "${MANAGEMENT_TAP}" ct status dnat accept
    iifname "${USER_TAP}" oifname "${UPLINK}" jump egress
  }
${strayChain()}
  chain egress {
    fib daddr type != unicast drop
    ct count over ${plan.connectionsMax} goto refuse
    ct status dnat ct original ip daddr ${plan.layout.user.gatewayAddress} accept
    ip daddr ${subnet} goto refuse
    ip daddr @allowed_private accept
    ip daddr @closed goto refuse
    accept
  }
  chain input {
    type filter hook input priority filter; policy drop;
    meta nfproto != ipv4 drop
    ct state established,related accept
    iifname "${USER_TAP}" ip daddr ${plan.layout.user.gatewayAddress} icmp type echo-request limit rate 20/second accept
    iifname "${USER_TAP}" fib daddr type local goto refuse
  }
  chain output {
    type filter hook output priority filter; policy drop;
    meta nfproto != ipv4 drop
    ct state established,related accept
    oifname "${USER_TAP}" tcp flags & rst == rst ct state invalid accept
  }
}
`;
}

/**
 * What a memory sends over connections that this slot never saw (NET-26). A FIN begins no entry and
 * so is invalid, and so is its reset on the way back through `output`. What is invalid for another
 * reason may belong to a connection that is well: it is dropped, as before, and sent again.
 */
function strayChain(): string {
  return `  chain stray {
    tcp flags & (syn | rst) == 0 ct state new reject with tcp reset
    tcp flags & (fin | syn | rst) == fin ct state invalid reject with tcp reset
  }`;
}

/** Frames as they leave the guest: its own MAC and address or nothing, IPv4 and ARP or nothing. */
function wireTable(plan: NetworkPlan): string {
  const { management, user } = plan.layout;
  const chain = (name: string, tap: string, guest: { mac: string; address: string }, ip: string): string => `  chain ${name} {
    type filter hook ingress device "${tap}" priority filter; policy drop;
    ether saddr != ${guest.mac} drop
    ether type arp arp saddr ip ${guest.address} accept
    ether type ip ip saddr ${guest.address} ${ip}accept
  }`;
  const agent = { mac: management.guestMac, address: management.guestAddress };
  return `table netdev sprited {
${chain("management", MANAGEMENT_TAP, agent, `ip daddr ${management.hostAddress} `)}
${chain("user", USER_TAP, { mac: user.guestMac, address: user.guestAddress }, "")}
}`;
}

/** Addresses are rewritten in both directions: towards the agent, and from the guest to the world. */
function natChains(plan: NetworkPlan): string {
  const { management, user } = plan.layout;
  const dns = (protocol: "udp" | "tcp"): string =>
    `    iifname "${USER_TAP}" ip daddr ${user.gatewayAddress} ${protocol} dport 53 dnat ip to ${oneOf(plan.resolvers)}`;
  return `  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "${UPLINK}" fib daddr type local tcp dport ${management.port} dnat ip to ${management.guestAddress}
${plan.resolvers.length === 0 ? "" : `${dns("udp")}\n${dns("tcp")}`}
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "${MANAGEMENT_TAP}" snat ip to ${management.hostAddress}
    oifname "${UPLINK}" masquerade
  }`;
}

/** One address, or a map that takes them in turn: a client that asks again reaches the next. */
function oneOf(addresses: readonly string[]): string {
  if (addresses.length === 1) return addresses[0] ?? "";
  const map = addresses.map((address, index) => `${index} : ${address}`).join(", ");
  return `numgen inc mod ${addresses.length} map { ${map} }`;
}

/** A set of ranges in nft's notation; also for the host's table. */
export function set(name: string, ranges: readonly string[]): string {
  const elements = ranges.length === 0 ? "" : `\n    elements = { ${ranges.join(", ")} }`;
  return `  set ${name} {
    type ipv4_addr
    flags interval
    auto-merge${elements}
  }`;
}

const linkSchema = z.array(
  z.object({
    ifname: z.string(),
    address: z.string().optional(),
    linkinfo: z
      .object({
        info_kind: z.string().optional(),
        info_data: z.object({ type: z.string().optional(), user: z.int().optional() }).loose().optional(),
      })
      .optional(),
  }),
);

/** What is left of a slot. */
export interface SlotLinks {
  /** Both taps are there, belong to the slot's user and have the MAC guests know. */
  taps: boolean;
  uplink: boolean;
}

/** Reads `ip -d -j link show` of a slot's namespace. Throws when it is not what `ip` prints. */
export function readSlotLinks(plan: NetworkPlan, slot: SlotPlan, json: unknown): SlotLinks {
  const links = linkSchema.parse(json);
  const tap = (name: string, mac: string): boolean =>
    links.some(
      (link) =>
        link.ifname === name &&
        link.address === mac &&
        link.linkinfo?.info_data?.type === "tap" &&
        link.linkinfo.info_data.user === slot.uid,
    );
  return {
    taps: tap(MANAGEMENT_TAP, plan.managementMac) && tap(USER_TAP, plan.gatewayMac),
    uplink: links.some((link) => link.ifname === UPLINK),
  };
}

function lines(commands: readonly string[]): string {
  return commands.map((command) => `${command}\n`).join("");
}
