/** Foreign rule sets that close forwarding: found, opened or reported. */
import { describe, expect, it } from "vitest";
import {
  findForwardBlocks,
  findOwnAccepts,
  forwardAcceptRules,
  type ForwardBlock,
  forwardProblem,
  isLegacyForwardBlocked,
} from "./forward-policy.ts";
import { planOf } from "./plan.fixture.ts";

const plan = planOf();
const links = `sp${plan.homeId}-*`;
const base = (where: string, hook: string, policy: string): unknown => {
  const [family, table, name] = where.split(" ");
  return { chain: { family, table, name, handle: 1, type: "filter", hook, prio: 0, policy } };
};
const listing = (...objects: unknown[]): unknown => ({
  nftables: [{ metainfo: { version: "1.0.6", json_schema_version: 1 } }, ...objects],
});
const docker: ForwardBlock = { family: "ip", table: "filter", chain: "FORWARD", owner: "iptables" };

describe("finding", () => {
  it("[NET-22] sees the policies of Docker and of hand-written tables, and no others", () => {
    const json = listing(
      base("ip filter FORWARD", "forward", "drop"),
      base("ip6 filter FORWARD", "forward", "drop"),
      base("ip filter INPUT", "input", "drop"),
      base("inet filter forward", "forward", "drop"),
      base("inet firewalld filter_FORWARD", "forward", "accept"),
      base(`inet sprited_${plan.homeId} forward`, "forward", "drop"),
      { chain: { family: "ip", table: "filter", name: "DOCKER-USER", handle: 4 } },
    );
    expect(findForwardBlocks(json)).toEqual([docker, { family: "inet", table: "filter", chain: "forward", owner: "nft" }]);
  });

  it("[NET-22] takes a whole rule set as well, and refuses what is none", () => {
    const json = listing({ table: { family: "ip", name: "filter", handle: 1 } }, base("ip filter FORWARD", "forward", "drop"), {
      rule: { family: "ip", table: "filter", chain: "FORWARD", handle: 9, expr: [{ jump: { target: "DOCKER-USER" } }] },
    });
    expect(findForwardBlocks(json)).toEqual([docker]);
    for (const wrong of [undefined, null, [], {}, { nftables: "x" }]) expect(() => findForwardBlocks(wrong)).toThrow();
  });

  it("[NET-22] reads the old iptables by its own listing", () => {
    const rules = "-P FORWARD DROP\n-A FORWARD -j DOCKER-USER\n";
    expect(isLegacyForwardBlocked(plan, rules)).toBe(true);
    expect(isLegacyForwardBlocked(plan, "-P FORWARD ACCEPT\n")).toBe(false);
    expect(isLegacyForwardBlocked(plan, `${rules}-A FORWARD -i sp${plan.homeId}-+ -j ACCEPT\n`)).toBe(false);
    expect(isLegacyForwardBlocked(plan, "")).toBe(false);
  });
});

describe("opening", () => {
  const match = (key: string, right: string): unknown => ({ match: { op: "==", left: { meta: { key } }, right } });
  const rule = (handle: number, ...expr: unknown[]): unknown => ({
    rule: { family: "ip", table: "filter", chain: "FORWARD", handle, expr },
  });
  const counter = { counter: { packets: 0, bytes: 0 } };

  it("[NET-22] inserts one rule for each direction", () => {
    expect(forwardAcceptRules(plan, docker)).toBe(
      `insert rule ip filter FORWARD oifname "${links}" counter accept\ninsert rule ip filter FORWARD iifname "${links}" counter accept\n`,
    );
  });

  it("[NET-22] knows its own rules again and leaves every other alone", () => {
    const json = listing(
      rule(5, match("iifname", links), counter, { accept: null }),
      rule(6, match("oifname", links), { accept: null }),
      rule(7, match("iifname", "sp00000000-*"), { accept: null }),
      rule(8, match("iifname", links), { drop: null }),
      rule(9, match("iifname", links), match("oifname", "eth0"), { accept: null }),
      rule(10, { accept: null }),
    );
    expect(findOwnAccepts(plan, json)).toEqual([
      { handle: 5, key: "iifname" },
      { handle: 6, key: "oifname" },
    ]);
  });

  it("[NET-22] a problem says what to type", () => {
    expect(forwardProblem(plan, { family: "inet", table: "filter", chain: "forward", owner: "nft" })).toMatchObject({
      code: "forward_blocked",
      fix: expect.stringContaining(`nft 'insert rule inet filter forward iifname "${links}" counter accept'`),
    });
    expect(forwardProblem(plan, { ...docker, owner: "legacy" }).fix).toContain(
      `iptables-legacy -I FORWARD -i sp${plan.homeId}-+ -j ACCEPT`,
    );
  });
});
