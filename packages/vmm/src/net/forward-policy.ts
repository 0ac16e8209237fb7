/**
 * Rule sets that are not ours and drop what the host would forward. In netfilter a packet must
 * pass every base chain: accepting it in our own table does not help against the policy of
 * another. Docker and ufw set such a policy on the chain that iptables keeps (`ip filter
 * FORWARD`); there two rules for our links are inserted. Chains that somebody wrote by hand are
 * not touched but reported. Pure.
 */
import { z } from "zod";
import type { NetworkProblem } from "./network.ts";
import { hostLinkPrefix, type NetworkPlan } from "./plan.ts";

/** A base chain at the forward hook that drops by policy. */
export interface ForwardBlock {
  family: string;
  table: string;
  chain: string;
  /** `iptables`: the chain iptables keeps in nftables. `nft`: written by hand. `legacy`: out of reach of nft. */
  owner: "iptables" | "nft" | "legacy";
}

const listingSchema = z.object({
  nftables: z.array(
    z
      .object({
        chain: z
          .object({
            family: z.string(),
            table: z.string(),
            name: z.string(),
            hook: z.string().optional(),
            policy: z.string().optional(),
          })
          .loose()
          .optional(),
        rule: z
          .object({ handle: z.int(), expr: z.array(z.unknown()) })
          .loose()
          .optional(),
      })
      .loose(),
  ),
});

/** Finds the blocks in `nft -j list chains` or `nft -j list ruleset`. Throws when it is neither. */
export function findForwardBlocks(json: unknown): ForwardBlock[] {
  return listingSchema.parse(json).nftables.flatMap(({ chain }) => {
    if (!chain || chain.hook !== "forward" || chain.policy !== "drop") return [];
    if (chain.family !== "ip" && chain.family !== "inet") return [];
    if (/^sprited_[0-9a-f]{8}$/.test(chain.table)) return [];
    const iptables = chain.family === "ip" && chain.table === "filter" && chain.name === "FORWARD";
    return [{ family: chain.family, table: chain.table, chain: chain.name, owner: iptables ? ("iptables" as const) : ("nft" as const) }];
  });
}

/** Whether `iptables-legacy -S FORWARD` shows a policy that drops and no rule that accepts our links. */
export function isLegacyForwardBlocked(plan: NetworkPlan, rules: string): boolean {
  const own = `-i ${hostLinkPrefix(plan)}+ -j ACCEPT`;
  const all = rules.split("\n").map((line) => line.trim());
  return all.includes("-P FORWARD DROP") && !all.some((line) => line === `-A FORWARD ${own}`);
}

/** `nft` that lets our links pass at the top of a chain. The rules read as iptables writes them. */
export function forwardAcceptRules(plan: NetworkPlan, block: ForwardBlock): string {
  const at = `${block.family} ${block.table} ${block.chain}`;
  const links = `"${hostLinkPrefix(plan)}*"`;
  return `insert rule ${at} oifname ${links} counter accept\ninsert rule ${at} iifname ${links} counter accept\n`;
}

/** Handles of our rules in `nft -j list chain …`, by direction. */
export function findOwnAccepts(plan: NetworkPlan, json: unknown): { handle: number; key: "iifname" | "oifname" }[] {
  const matchSchema = z.object({
    match: z.object({
      op: z.literal("=="),
      left: z.object({ meta: z.object({ key: z.enum(["iifname", "oifname"]) }) }),
      right: z.literal(`${hostLinkPrefix(plan)}*`),
    }),
  });
  return listingSchema.parse(json).nftables.flatMap(({ rule }) => {
    if (!rule) return [];
    const accepts = rule.expr.some((part) => z.object({ accept: z.null() }).safeParse(part).success);
    const conditions = rule.expr.filter((part) => z.object({ match: z.unknown() }).safeParse(part).success);
    const own = matchSchema.safeParse(conditions[0]);
    if (!accepts || conditions.length !== 1 || !own.success) return [];
    return [{ handle: rule.handle, key: own.data.match.left.meta.key }];
  });
}

/** The problem a block is as long as nobody lets our links pass. */
export function forwardProblem(plan: NetworkPlan, block: ForwardBlock): NetworkProblem {
  const where =
    block.owner === "legacy" ? "iptables-legacy, chain FORWARD" : `nftables, chain ${block.family} ${block.table} ${block.chain}`;
  const prefix = hostLinkPrefix(plan);
  const commands =
    block.owner === "legacy"
      ? `iptables-legacy -I FORWARD -i ${prefix}+ -j ACCEPT and iptables-legacy -I FORWARD -o ${prefix}+ -j ACCEPT`
      : forwardAcceptRules(plan, block)
          .trim()
          .split("\n")
          .map((rule) => `nft '${rule}'`)
          .join(" and ");
  return {
    code: "forward_blocked",
    message: `The host drops forwarded packets (${where}): sprites have no internet.`,
    fix: `Let the sprites' links pass: ${commands}. What sprites may reach stays limited by the rules of sprited.`,
  };
}
