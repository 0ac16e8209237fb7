/**
 * The host's side of the slots: claims the range, keeps the home's table, switches forwarding
 * on and opens foreign chains for our links. Whatever it changes on the host it says in the log.
 * Everything here is repeated at each start and changes nothing that is right already.
 */
import { chmod, readFile, stat, writeFile } from "node:fs/promises";
import { type Logger, run, RunError } from "@sprited/base";
import { VmmError } from "../errors.ts";
import { formatRange, type Ipv4Range, rangesOverlap } from "./address.ts";
import {
  findForwardBlocks,
  findOwnAccepts,
  type ForwardBlock,
  forwardAcceptRules,
  forwardProblem,
  isLegacyForwardBlocked,
} from "./forward-policy.ts";
import {
  claimRules,
  claimTable,
  hasHostTable,
  hostRules,
  hostTable,
  type RangeClaim,
  readClaims,
  readRangeUses,
  removeTable,
} from "./host-rules.ts";
import { removeHomeRecord, writeHomeRecord } from "./home-records.ts";
import type { NetworkOptions, NetworkProblem } from "./network.ts";
import { nftArguments } from "./nft.ts";
import { type NetworkPlan, planNetwork, usableSubnets } from "./plan.ts";
import { findResolvers } from "./resolvers.ts";
import { TUN_DEVICE } from "./support.ts";

const FORWARD_PATH = "/proc/sys/net/ipv4/ip_forward";
/** Limit of one call of ip or nft, `ms`. */
export const COMMAND_TIMEOUT_MS = 30_000;
/** Read, write and execute bits of a device everybody may open. */
const TUN_MODE = 0o666;

/** The host's side of the slots of one home. */
export class HostNetwork {
  /** The range of this home. */
  readonly subnet: Ipv4Range;
  readonly #plan: NetworkPlan;
  readonly #log: Logger;
  #problems: readonly NetworkProblem[] = [];

  private constructor(plan: NetworkPlan, subnet: Ipv4Range, log: Logger) {
    this.#plan = plan;
    this.subnet = subnet;
    this.#log = log;
  }

  /**
   * Makes the host ready for slots of this home. `hasSlots`: slots of an earlier run exist, so
   * their range has to stay. Throws `VmmError` `vmm_network`.
   */
  static async open(plan: NetworkPlan, options: { hasSlots: boolean; log: Logger }): Promise<HostNetwork> {
    await writeHomeRecord(plan.homeId, plan.home);
    const chains = await listChains();
    const host = new HostNetwork(plan, await claimRange(plan, readClaims(chains), options), options.log);
    await nft(hostRules(plan, host.subnet));
    await enableForwarding(options.log);
    await openTunDevice(options.log);
    await host.#openForeignChains(chains);
    return host;
  }

  get problems(): readonly NetworkProblem[] {
    return this.#problems;
  }

  /**
   * Restores what others took away since: a firewall that was reloaded flushes every table, a
   * container engine that starts later closes the forward chain.
   */
  async refresh(): Promise<void> {
    const chains = await listChains();
    if (!hasHostTable(this.#plan, chains)) {
      await nft(hostRules(this.#plan, this.subnet));
      this.#log.warn(
        { event: "host_rules_restored", table: hostTable(this.#plan) },
        "the rules for the links of sprites were gone: made them anew",
      );
    }
    await enableForwarding(this.#log);
    await this.#openForeignChains(chains);
  }

  /** Takes back what was set up for this home. */
  async leave(): Promise<void> {
    await leaveHost(this.#plan);
  }

  async #openForeignChains(chains: unknown): Promise<void> {
    const problems: NetworkProblem[] = [];
    for (const block of findForwardBlocks(chains)) {
      if (await acceptsOurs(this.#plan, block)) continue;
      if (block.owner !== "iptables") {
        problems.push(forwardProblem(this.#plan, block));
        continue;
      }
      await nft(forwardAcceptRules(this.#plan, block));
      const chain = `${block.family} ${block.table} ${block.chain}`;
      this.#log.warn({ event: "forward_opened", chain }, "the host drops forwarded packets: let the links of sprites pass");
    }
    this.#problems = [...problems, ...(await legacyProblems(this.#plan)), ...resolverProblems(this.#plan)];
  }
}

/** Takes back what the host has for a home beside its slots; forwarding and the tun device stay as they are. */
export async function leaveHost(plan: NetworkPlan): Promise<void> {
  const chains = await listChains();
  for (const block of findForwardBlocks(chains)) {
    if (block.owner !== "iptables") continue;
    const rules = findOwnAccepts(plan, await listChain(block));
    await nft(rules.map((rule) => `delete rule ${block.family} ${block.table} ${block.chain} handle ${rule.handle}\n`).join(""));
  }
  const claims = readClaims(chains).filter((claim) => claim.homeId === plan.homeId);
  await nft([hostTable(plan), ...claims.map((claim) => claimTable(claim.subnet))].map(removeTable).join(""));
  await removeHomeRecord(plan.homeId);
}

/** What limits sprites on this host, without changing anything; for a check of the host. Needs root. */
export async function inspectNetwork(options: NetworkOptions): Promise<NetworkProblem[]> {
  const plan = planNetwork({ ...options, resolvers: options.resolvers ?? (await findResolvers()) });
  const problems: NetworkProblem[] = [];
  for (const block of findForwardBlocks(await listChains())) {
    // Those of iptables are opened when the daemon starts.
    if (block.owner !== "iptables" && !(await acceptsOurs(plan, block))) problems.push(forwardProblem(plan, block));
  }
  return [...problems, ...(await legacyProblems(plan)), ...resolverProblems(plan)];
}

/** Applies rules; nothing when there is nothing to do. */
async function nft(rules: string): Promise<void> {
  if (rules !== "") await run("nft", nftArguments(rules), { timeoutMs: COMMAND_TIMEOUT_MS });
}

async function claimRange(
  plan: NetworkPlan,
  claims: readonly RangeClaim[],
  options: { hasSlots: boolean; log: Logger },
): Promise<Ipv4Range> {
  for (const own of claims.filter((claim) => claim.homeId === plan.homeId)) {
    const wanted = plan.subnets.some((subnet) => formatRange(subnet) === formatRange(own.subnet));
    if (wanted) return own.subnet;
    if (options.hasSlots) {
      options.log.warn(
        { event: "network_range_kept", range: formatRange(own.subnet) },
        "network.subnet changed, but virtual machines still use the old range: it is kept until none runs at a start",
      );
      return own.subnet;
    }
    await nft(removeTable(claimTable(own.subnet)));
  }
  const uses = readRangeUses(plan, await ipJson(["addr", "show"]), await ipJson(["route", "show", "table", "all"]));
  const others = claims.filter((claim) => claim.homeId !== plan.homeId);
  for (const subnet of usableSubnets(plan, uses)) {
    if (others.some((claim) => rangesOverlap(claim.subnet, subnet))) continue;
    if (await tryClaim(plan, subnet)) return subnet;
  }
  throw new VmmError(
    "vmm_network",
    `${plan.subnets.map(formatRange).join(", ")}: in use on this host already; set network.subnet to a range that is free`,
  );
}

async function tryClaim(plan: NetworkPlan, subnet: Ipv4Range): Promise<boolean> {
  try {
    await nft(claimRules(plan, subnet));
    return true;
  } catch (error) {
    if (error instanceof RunError && error.stderr.includes("File exists")) return false;
    throw new VmmError("vmm_network", "nft refused to make a table; see the log for its own words", { cause: error });
  }
}

async function enableForwarding(log: Logger): Promise<void> {
  if ((await readFile(FORWARD_PATH, "utf8")).trim() === "1") return;
  await writeFile(FORWARD_PATH, "1");
  log.warn(
    { event: "ip_forward_enabled", path: FORWARD_PATH },
    "switched IPv4 forwarding on (net.ipv4.ip_forward=1): sprites reach the internet through this host",
  );
}

/** The VMM runs as a user of its own; taps are guarded by their owner, not by the mode of the device. */
async function openTunDevice(log: Logger): Promise<void> {
  const mode = (await stat(TUN_DEVICE)).mode & 0o777;
  if ((mode & TUN_MODE) === TUN_MODE) return;
  await chmod(TUN_DEVICE, mode | TUN_MODE);
  log.warn(
    { event: "tun_mode_changed", path: TUN_DEVICE, mode: (mode | TUN_MODE).toString(8) },
    "made the tun device usable without root, as udev does",
  );
}

async function acceptsOurs(plan: NetworkPlan, block: ForwardBlock): Promise<boolean> {
  const keys = findOwnAccepts(plan, await listChain(block)).map((rule) => rule.key);
  return keys.includes("iifname") && keys.includes("oifname");
}

/** Rules in the old kernel interface are visible to its own program only. */
async function legacyProblems(plan: NetworkPlan): Promise<NetworkProblem[]> {
  const tables = await readFile("/proc/net/ip_tables_names", "utf8").catch(() => "");
  if (!tables.split("\n").includes("filter")) return [];
  const rules = await run("iptables-legacy", ["-S", "FORWARD"], { timeoutMs: COMMAND_TIMEOUT_MS }).then(
    (result) => result.stdout,
    () => "",
  );
  if (!isLegacyForwardBlocked(plan, rules)) return [];
  return [forwardProblem(plan, { family: "ip", table: "filter", chain: "FORWARD", owner: "legacy" })];
}

function resolverProblems(plan: NetworkPlan): NetworkProblem[] {
  if (plan.resolvers.length > 0) return [];
  return [
    {
      code: "no_resolver",
      message: "No DNS server was found that sprites can use: names do not resolve in them.",
      fix: "Name one in network.dns, for example the router's address.",
    },
  ];
}

async function listChains(): Promise<unknown> {
  return nftJson(["list", "chains"]);
}

async function listChain(block: ForwardBlock): Promise<unknown> {
  return nftJson(["list", "chain", block.family, block.table, block.chain]);
}

async function nftJson(args: readonly string[]): Promise<unknown> {
  return JSON.parse((await run("nft", ["-j", ...args], { timeoutMs: COMMAND_TIMEOUT_MS })).stdout);
}

async function ipJson(args: readonly string[]): Promise<unknown> {
  return JSON.parse((await run("ip", ["-j", "-4", ...args], { timeoutMs: COMMAND_TIMEOUT_MS })).stdout);
}
