/**
 * Which DNS servers answer the guests: those the host itself uses, as far as a guest's packets
 * can be sent to them. A server on the host's loopback (systemd-resolved, dnsmasq) cannot, so
 * the list behind systemd-resolved is the second choice.
 */
import { readFile } from "node:fs/promises";
import { formatIpv4, tryParseIpv4 } from "./address.ts";

/** glibc reads no more than three either. */
const RESOLVERS_MAX = 3;
/** In the order they are asked. */
export const RESOLV_CONF_PATHS: readonly string[] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/**
 * IPv4 name servers of a resolv.conf that are not on loopback, in order, at most three.
 * IPv6 servers are left out: slots carry IPv4 only.
 */
export function parseResolvConf(text: string): string[] {
  const found = new Set<string>();
  for (const line of text.split("\n")) {
    const match = /^\s*nameserver\s+(\S+)/.exec(line);
    const address = tryParseIpv4(match?.[1] ?? "");
    if (address === undefined || !isUsableResolver(address)) continue;
    found.add(formatIpv4(address));
  }
  return [...found].slice(0, RESOLVERS_MAX);
}

/** Whether a guest's question can be sent to this address: not loopback, 0/8, multicast or reserved. */
export function isUsableResolver(address: number): boolean {
  const top = address >>> 24;
  return top !== 0 && top !== 127 && top < 224;
}

/** The host's own upstream servers; empty when there is none that guests can be given. */
export async function findResolvers(paths: readonly string[] = RESOLV_CONF_PATHS): Promise<string[]> {
  for (const path of paths) {
    const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ENOTDIR") return "";
      throw error;
    });
    const resolvers = parseResolvConf(text);
    if (resolvers.length > 0) return resolvers;
  }
  return [];
}
