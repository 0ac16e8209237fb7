/** Names, numbers and ranges, and the refusal of everything that must not reach a command. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { VmmError } from "../errors.ts";
import { formatRange, tryParseRange } from "./address.ts";
import type { NetworkOptions } from "./network.ts";
import { LAYOUT, planOf } from "./plan.fixture.ts";
import { DEFAULT_SUBNETS, hostLinkPrefix, planSlot, type RangeUse, slotIndexOf, slotOf, usableSubnets } from "./plan.ts";

const range = (text: string): ReturnType<typeof tryParseRange> & {} => tryParseRange(text) ?? expect.fail(text);
const use = (text: string, kind: RangeUse["kind"] = "route"): RangeUse => ({ range: range(text), kind, device: "eth0" });

describe("a slot's plan", () => {
  it("[NET-1] names fit into the kernel's limits, whatever the home and the number", () => {
    fc.assert(
      fc.property(fc.string(), fc.integer({ min: 0, max: 9998 }), (home, index) => {
        const plan = planOf({ home: `/${home}`, max: 9999 });
        const slot = planSlot(plan, range("10.118.0.0/16"), index);
        expect(slot.hostLink).toMatch(/^sp[0-9a-f]{8}-[0-9]{1,4}$/);
        expect(slot.hostLink.length).toBeLessThanOrEqual(15);
        expect(slot.netns).toMatch(/^sprited-[0-9a-f]{8}-[0-9]{1,4}$/);
        expect(slotIndexOf(plan, slot.netns)).toBe(index);
      }),
    );
  });

  it("[NET-1] another home's namespaces are not ours", () => {
    const [one, two] = [planOf({ home: "/one" }), planOf({ home: "/two" })];
    expect(slotIndexOf(one, planSlot(two, range("10.118.0.0/16"), 3).netns)).toBeUndefined();
    expect(hostLinkPrefix(one)).not.toBe(hostLinkPrefix(two));
    for (const name of [
      "sprited-",
      `sprited-${one.homeId}-`,
      `sprited-${one.homeId}-03`,
      `sprited-${one.homeId}-3x`,
      `x-sprited-${one.homeId}-3`,
    ]) {
      expect(slotIndexOf(one, name), name).toBeUndefined();
    }
  });

  it("[NET-1] addresses and users differ between slots and stay in their range", () => {
    const plan = planOf();
    const slots = Array.from({ length: 1000 }, (_, index) => planSlot(plan, range("10.118.0.0/16"), index));
    expect(slots[0]).toMatchObject({ hostAddress: "10.118.0.1", slotAddress: "10.118.0.2", uid: 2_000_000, gid: 2_000_000 });
    expect(slots[999]).toMatchObject({ hostAddress: "10.118.15.157", slotAddress: "10.118.15.158", uid: 2_000_999 });
    expect(new Set(slots.flatMap((slot) => [slot.hostAddress, slot.slotAddress])).size).toBe(2000);
    expect(() => planSlot(plan, range("10.118.0.0/28"), 4)).toThrow(VmmError);
    expect(planSlot(plan, range("10.120.0.0/16"), 3).uid, "another home's users").toBe(2_020_003);
  });

  it("[NET-3] the host dials a slot at its own address", () => {
    const plan = planOf();
    expect(slotOf(plan, planSlot(plan, range("10.118.0.0/16"), 1), "/run/netns")).toEqual({
      index: 1,
      netnsPath: `/run/netns/sprited-${plan.homeId}-1`,
      managementTap: "sprited-mgmt",
      userTap: "sprited-user",
      agentAddress: { host: "10.118.0.6", port: 7781 },
      uid: 2_000_001,
      gid: 2_000_001,
    });
  });
});

describe("settings", () => {
  const bad: [string, Partial<NetworkOptions>][] = [
    ["absolute", { home: "relative" }],
    ["network.subnet", { subnet: "10.118.0.0/16; add rule" }],
    ["network.subnet", { subnet: "10.0.0.0/30" }],
    ["too small", { subnet: "10.0.0.0/28" }],
    ["network.uid_base", { uidBase: 0 }],
    ["network.uid_base", { uidBase: 1.5 }],
    ["the limit of slots", { max: 0 }],
    ["the limit of slots", { max: 10_000 }],
    ["network.spare_slots", { spare: 5, max: 4 }],
    ["the limit of connections", { connectionsMax: Number.NaN }],
    ["network.dns", { resolvers: ["127.0.0.53"] }],
    ["network.dns", { resolvers: ["1.1.1.1\naccept"] }],
    ["network.allowed_private", { allowedPrivate: ["192.168.1.0/24 }"] }],
    ["MAC", { layout: { ...LAYOUT, user: { ...LAYOUT.user, guestMac: "no" } } }],
    ["end in 01", { layout: { ...LAYOUT, user: { ...LAYOUT.user, guestMac: "52:54:00:00:75:01" } } }],
    ["do not fit", { layout: { ...LAYOUT, user: { ...LAYOUT.user, guestAddress: "10.117.0.5" } } }],
    ["overlap", { layout: { ...LAYOUT, user: { ...LAYOUT.user, guestAddress: "192.168.127.2", gatewayAddress: "192.168.127.1" } } }],
  ];
  it.each(bad)("a bad one is refused with a typed error: %s (%j)", (words, options) => {
    expect(() => planOf(options)).toThrow(expect.objectContaining({ code: "vmm_network", message: expect.stringContaining(words) }));
  });

  it.each(["0.0.0.0/0", "127.0.0.0/8", "169.254.169.254", "8.8.8.8", "224.0.0.0/4", "10.0.0.0/7"])(
    "[NET-14] %s cannot be opened",
    (text) => {
      expect(() => planOf({ allowedPrivate: [text] })).toThrow("network.allowed_private");
    },
  );

  it("[NET-14] what is opened is never taken for links", () => {
    const plan = planOf({ allowedPrivate: ["10.118.7.0/24", "100.64.0.0/10"] });
    expect(plan.allowedPrivate).toEqual(["10.118.7.0/24", "100.64.0.0/10"]);
    expect(plan.subnets.map(formatRange)).not.toContain("10.118.0.0/16");
    expect(() => planOf({ subnet: "10.50.0.0/16", allowedPrivate: ["10.0.0.0/8"] })).toThrow("network.subnet");
  });
});

describe("choosing a range", () => {
  it("[NET-5] takes the first that nothing on the host overlaps", () => {
    expect(usableSubnets(planOf(), []).map(formatRange)).toEqual(DEFAULT_SUBNETS);
    const uses = [use("10.118.3.0/24"), use("10.119.0.1/32", "address"), use("10.120.0.0/14")];
    expect(usableSubnets(planOf(), uses).map(formatRange)).toEqual(["172.29.0.0/16", "172.30.0.0/16", "198.18.0.0/16", "198.19.0.0/16"]);
    expect(usableSubnets(planOf(), [use("10.0.0.0/8"), use("172.16.0.0/12"), use("198.18.0.0/15")])).toEqual([]);
  });

  it("[NET-5] the first of the list is no choice of the operator's", () => {
    expect(usableSubnets(planOf({ subnet: "10.118.0.0/16" }), [use("10.118.0.0/16")]).map(formatRange)[0]).toBe("10.119.0.0/16");
  });

  it("[NET-5] never takes the range of a resolver", () => {
    expect(usableSubnets(planOf({ resolvers: ["10.118.0.2"] }), []).map(formatRange)[0]).toBe("10.119.0.0/16");
  });

  it("[NET-5] a configured range bears a wider route, but nothing inside it", () => {
    const plan = planOf({ subnet: "10.50.0.0/16" });
    expect(usableSubnets(plan, [use("10.0.0.0/8")]).map(formatRange)).toEqual(["10.50.0.0/16"]);
    expect(usableSubnets(plan, [use("10.50.0.0/16")])).toEqual([]);
    expect(usableSubnets(plan, [use("10.50.9.1/32", "address")])).toEqual([]);
  });
});
