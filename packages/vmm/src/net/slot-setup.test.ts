/** The text given to ip, sysctl and nft for the inside of a slot. */
import { describe, expect, it } from "vitest";
import { tryParseRange } from "./address.ts";
import { planSlot } from "./plan.ts";
import { planOf } from "./plan.fixture.ts";
import { linkBatch, namespaceBatch, readSlotLinks, slotRules, slotSysctls, tapBatch, uplinkBatch } from "./slot-setup.ts";

const plan = planOf({ resolvers: ["10.0.0.53"] });
const slot = planSlot(plan, tryParseRange("10.118.0.0/16") ?? { first: 0, prefixLength: 0 }, 2);

/** The lines of one chain of a rule set. */
function chain(rules: string, name: string): string[] {
  const start = rules.indexOf(`  chain ${name} {`);
  expect(start, `chain ${name}`).toBeGreaterThan(0);
  return rules
    .slice(start, rules.indexOf("\n  }", start))
    .split("\n")
    .slice(1)
    .map((line) => line.trim());
}

describe("links", () => {
  it("[NET-1] one batch makes namespace and link of each slot", () => {
    expect(namespaceBatch([slot])).toBe(`netns add ${slot.netns}\n`);
    expect(linkBatch([slot]).split("\n")).toEqual([
      `link add ${slot.hostLink} type veth peer name uplink netns ${slot.netns}`,
      `addr add 10.118.0.9/30 dev ${slot.hostLink}`,
      `link set dev ${slot.hostLink} up`,
      "",
    ]);
    expect(uplinkBatch(slot)).toContain("route replace default via 10.118.0.9");
  });

  it("[NET-2] taps have the slot's owner, and the MAC that snapshots remember", () => {
    const batch = tapBatch(plan, slot);
    expect(batch).toContain("tuntap add dev sprited-user mode tap user 2000002 group 2000002");
    expect(batch).toContain("link set dev sprited-user address 52:54:00:00:75:01");
    expect(batch).toContain("link set dev sprited-mgmt address 52:54:00:00:7f:01");
    expect(batch).toContain("neigh replace 192.168.127.2 lladdr 52:54:00:00:7f:02 dev sprited-mgmt nud permanent");
  });

  it("[NET-15] IPv6 is switched off before the taps are made", () => {
    expect(slotSysctls()).toEqual(
      expect.arrayContaining(["net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv4.ip_forward=1"]),
    );
  });
});

describe("rules", () => {
  const rules = slotRules(plan, "10.118.0.0/16");

  it("[NET-13] everything but the guest's way out is dropped by policy", () => {
    for (const name of ["forward", "input", "output"]) expect(chain(rules, name)[0]).toMatch(/policy drop;$/);
    expect(chain(rules, "forward").filter((line) => line.includes("accept"))).toEqual([
      "ct state established,related accept",
      'iifname "uplink" oifname "sprited-mgmt" ct status dnat accept',
    ]);
    expect(chain(rules, "output").filter((line) => line.endsWith("accept"))).toEqual([
      "ct state established,related accept",
      'oifname "sprited-user" tcp flags & rst == rst ct state invalid accept',
    ]);
  });

  it("[NET-26] what belongs to no known connection is reset before anything is dropped or accepted", () => {
    const forward = chain(rules, "forward");
    expect(forward.indexOf('iifname "sprited-user" jump stray')).toBeLessThan(forward.indexOf("ct state invalid drop"));
    expect(forward.indexOf('iifname "sprited-user" jump stray')).toBeGreaterThan(0);
    for (const line of chain(rules, "stray")) expect(line).toMatch(/ct state (new|invalid) reject with tcp reset$/);
  });

  it("[NET-14] other slots are refused before anything private is allowed, and private before the rest", () => {
    const egress = chain(slotRules(planOf({ allowedPrivate: ["192.168.7.0/24"] }), "10.118.0.0/16"), "egress");
    const order = ["ip daddr 10.118.0.0/16 goto refuse", "ip daddr @allowed_private accept", "ip daddr @closed goto refuse", "accept"];
    expect(order.map((line) => egress.indexOf(line))).toEqual(order.map((line) => egress.indexOf(line)).toSorted((a, b) => a - b));
    expect(order.every((line) => egress.includes(line))).toBe(true);
    expect(egress.at(-1)).toBe("accept");
  });

  it("[NET-15] only the guest's own MAC and address enter from the wire", () => {
    expect(chain(rules, "user")).toEqual([
      'type filter hook ingress device "sprited-user" priority filter; policy drop;',
      "ether saddr != 52:54:00:00:75:02 drop",
      "ether type arp arp saddr ip 10.117.0.2 accept",
      "ether type ip ip saddr 10.117.0.2 accept",
    ]);
    expect(chain(rules, "management").at(-1)).toBe("ether type ip ip saddr 192.168.127.2 ip daddr 192.168.127.1 accept");
  });

  it("[NET-16] DNS goes to the resolver, to several in turn, or nowhere", () => {
    expect(rules).toContain('iifname "sprited-user" ip daddr 10.117.0.1 udp dport 53 dnat ip to 10.0.0.53\n');
    const several = slotRules(planOf({ resolvers: ["1.1.1.1", "9.9.9.9"] }), "10.118.0.0/16");
    expect(several).toContain("tcp dport 53 dnat ip to numgen inc mod 2 map { 0 : 1.1.1.1, 1 : 9.9.9.9 }");
    expect(slotRules(planOf({ resolvers: [] }), "10.118.0.0/16")).not.toContain("dport 53");
  });
});

describe("what is left of a slot", () => {
  const tap = (ifname: string, address: string, user: number): unknown => ({
    ifname,
    address,
    linkinfo: { info_kind: "tun", info_data: { type: "tap", persist: true, user } },
  });
  const whole = [
    { ifname: "lo" },
    { ifname: "uplink" },
    tap("sprited-mgmt", "52:54:00:00:7f:01", slot.uid),
    tap("sprited-user", "52:54:00:00:75:01", slot.uid),
  ];

  it("[NET-9] is whole only with both taps, their owner and their MAC", () => {
    expect(readSlotLinks(plan, slot, whole)).toEqual({ taps: true, uplink: true });
    expect(readSlotLinks(plan, slot, whole.slice(0, 3)).taps).toBe(false);
    expect(readSlotLinks(plan, slot, [...whole.slice(0, 3), tap("sprited-user", "52:54:00:00:75:01", 0)]).taps).toBe(false);
    expect(readSlotLinks(plan, slot, [...whole.slice(0, 3), tap("sprited-user", "52:54:00:00:75:09", slot.uid)]).taps).toBe(false);
    expect(
      readSlotLinks(
        plan,
        slot,
        whole.filter((_, index) => index !== 1),
      ).uplink,
    ).toBe(false);
  });
});
