/**
 * Which addresses a webhook may go to: those of the public internet, unless the configuration
 * allows all (JOB-15). Pure but for the name lookup.
 *
 * Invariant: the address that was checked is the one connected to; there is no second lookup.
 */
import { lookup as resolve, type LookupAddress } from "node:dns";
import { BlockList, isIP, type LookupFunction } from "node:net";
import { ApiError } from "@sprited/protocol/errors";

/** Code of a lookup that gave an address that is not public. */
export const NOT_PUBLIC = "ADDRESS_NOT_PUBLIC";

const closed = new BlockList();
for (const [network, bits] of [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.88.99.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 3],
] as const)
  closed.addSubnet(network, bits, "ipv4");
// Documentation, and ranges that carry an IPv4 address inside.
for (const [network, bits] of [
  ["2001:db8::", 32],
  ["2001::", 32],
  ["2002::", 16],
] as const)
  closed.addSubnet(network, bits, "ipv6");
const global = new BlockList();
global.addSubnet("2000::", 3, "ipv6");

/** True for addresses of the public internet. */
export function isPublicAddress(address: string): boolean {
  const family = isIP(address);
  if (family === 4) return !closed.check(address, "ipv4");
  return family === 6 && global.check(address, "ipv6") && !closed.check(address, "ipv6");
}

/** The URL of a webhook, checked as far as that goes without asking for its name. Throws `webhook_refused`. */
export function requireWebhookUrl(text: string, options: { allowPrivate: boolean }): URL {
  const url = URL.parse(text);
  const refuse = (message: string): ApiError => new ApiError("webhook_refused", message, { details: { field: "webhook.url" } });
  if (!url || (url.protocol !== "http:" && url.protocol !== "https:")) throw refuse("webhook.url must be an http or https URL");
  if (url.username !== "" || url.password !== "") throw refuse("webhook.url must not contain a user name or password; use webhook.secret");
  const host = hostOf(url);
  const local = host === "localhost" || host.endsWith(".localhost");
  if (!options.allowPrivate && (local || (isIP(host) !== 0 && !isPublicAddress(host))))
    throw refuse("webhook.url leads to an address that is not public; this server's configuration does not allow that");
  return url;
}

/** Host of a URL without the brackets of IPv6. */
export function hostOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, "");
}

/** A lookup for sockets that fails with `NOT_PUBLIC` when a name has any address that is not public. */
export const publicLookup: LookupFunction = (hostname, options, callback) => {
  resolve(hostname, { ...options, all: true }, (error, addresses: LookupAddress[]) => {
    if (error) return callback(error, []);
    if (addresses.length === 0 || !addresses.every(({ address }) => isPublicAddress(address)))
      return callback(Object.assign(new Error("the name leads to an address that is not public"), { code: NOT_PUBLIC }), []);
    const [first] = addresses;
    if (options.all || !first) callback(null, addresses);
    else callback(null, first.address, first.family);
  });
};
