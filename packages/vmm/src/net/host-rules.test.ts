/** The text given to nft on the host, and what is read back from it. */
import { describe, expect, it } from "vitest";
import { formatRange, tryParseRange } from "./address.ts";
import { claimRules, claimTable, hasHostTable, hostRules, hostTable, readClaims, readRangeUses } from "./host-rules.ts";
import { planOf } from "./plan.fixture.ts";

const plan = planOf({ resolvers: ["192.168.1.1"], allowedPrivate: ["192.168.7.0/24"] });
const subnet = tryParseRange("10.118.0.0/16") ?? { first: 0, prefixLength: 0 };
const links = `"sp${plan.homeId}-*"`;

describe("the host's table", () => {
  const rules = hostRules(plan, subnet);

  it("[NET-24] every chain looks at this home's links alone", () => {
    for (const name of ["prerouting", "input"])
      expect(rules).toMatch(new RegExp(`chain ${name} \\{\\n[^\\n]*policy accept;\\n    iifname != "sp${plan.homeId}-\\*" accept`));
    expect(rules).toMatch(new RegExp(`chain output \\{\\n[^\\n]*policy accept;\\n    oifname != "sp${plan.homeId}-\\*" accept`));
    expect(rules).toContain(`oifname ${links} jump to_slot\n    iifname ${links} jump from_slot\n`);
    expect(rules).not.toContain("policy drop");
  });

  it("[NET-12] the host's own addresses are refused before any address is rewritten", () => {
    const prerouting = rules.slice(rules.indexOf("chain prerouting"), rules.indexOf("chain input"));
    expect(prerouting).toContain("hook prerouting priority mangle");
    expect(prerouting).toContain("fib daddr type local reject");
    expect(prerouting).not.toContain("allowed_private");
  });

  it("[NET-21] only the range of the slots is masqueraded", () => {
    expect(rules).toContain(`ip saddr 10.118.0.0/16 oifname != ${links} masquerade`);
  });
});

describe("claims", () => {
  it("[NET-5] a claim is made by creating, so that the second home fails", () => {
    expect(claimRules(plan, subnet)).toBe(
      `create table inet ${claimTable(subnet)}\nadd chain inet ${claimTable(subnet)} home_${plan.homeId}\n`,
    );
  });

  it("[NET-5] claims are read back with their owner, and nothing else is", () => {
    const chain = (table: string, name: string): unknown => ({ chain: { family: "inet", table, name, handle: 1 } });
    const listing = {
      nftables: [
        { metainfo: { version: "1.0.6" } },
        chain(claimTable(subnet), `home_${plan.homeId}`),
        chain("sprited_range_10_119_0_0_16", "home_0011aabb"),
        chain("sprited_range_999_0_0_0_16", "home_0011aabb"),
        chain("sprited_range_10_120_0_0_16", "somebody"),
        chain("filter", "home_0011aabb"),
        chain(hostTable(plan), "input"),
      ],
    };
    expect(readClaims(listing).map((claim) => [formatRange(claim.subnet), claim.homeId])).toEqual([
      ["10.118.0.0/16", plan.homeId],
      ["10.119.0.0/16", "0011aabb"],
    ]);
    expect(hasHostTable(plan, listing)).toBe(true);
    expect(hasHostTable(planOf({ home: "/other" }), listing)).toBe(false);
    expect(() => readClaims({ unexpected: true })).toThrow();
  });
});

describe("ranges in use", () => {
  it("[NET-5] come from addresses and routes, without the default and without our own links", () => {
    const addresses = [
      { ifname: "eth0", addr_info: [{ local: "192.168.1.5", prefixlen: 24 }] },
      { ifname: `sp${plan.homeId}-0`, addr_info: [{ local: "10.118.0.1", prefixlen: 30 }] },
      { ifname: "sp00000000-0", addr_info: [{ local: "10.119.0.1", prefixlen: 30 }] },
    ];
    const routes = [
      { dst: "default", dev: "eth0" },
      { dst: "0.0.0.0/1", dev: "tun0" },
      { dst: "10.118.0.0/30", dev: `sp${plan.homeId}-0` },
      { type: "blackhole", dst: "10.121.0.0/16" },
      { dst: "10.122.3.4", dev: "wg0" },
    ];
    expect(readRangeUses(plan, addresses, routes).map((use) => [formatRange(use.range), use.kind, use.device])).toEqual([
      ["192.168.1.0/24", "address", "eth0"],
      ["10.119.0.0/30", "address", "sp00000000-0"],
      ["0.0.0.0/1", "route", "tun0"],
      ["10.121.0.0/16", "route", "blackhole"],
      ["10.122.3.4/32", "route", "wg0"],
    ]);
  });
});
