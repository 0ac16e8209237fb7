/** Base URLs of APIs: one spelling for each, and short names for them. Pure. */
import { CliError } from "../output/cli-error.ts";

/** Where `sprited` listens unless told otherwise. */
export const DEFAULT_API_URL = "http://127.0.0.1:7780";

/** Short names that need no set-up. */
const BUILT_IN_ALIASES = new Map([
  ["local", DEFAULT_API_URL],
  ["sprites", "https://api.sprites.dev"],
]);

/**
 * One spelling: scheme, host, port, path, no trailing slash. A missing scheme becomes `http` for
 * this machine and `https` for others. Throws `CliError` for what is no such URL.
 */
export function normalizeApiUrl(text: string): string {
  const withScheme = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `https://${text}`;
  const url = URL.canParse(withScheme) ? new URL(withScheme) : undefined;
  if (!url || url.hostname === "" || !/^https?:$/.test(url.protocol)) {
    throw new CliError(`${JSON.stringify(text)} is not the URL of an API.`, {
      hint: `Write it like ${DEFAULT_API_URL} or https://sprites.example.com.`,
    });
  }
  if (url.username || url.password)
    throw new CliError("The API URL must not contain a user name or password.", { hint: "Give the token with `sprite login`." });
  if (withScheme !== text && isLoopbackHost(url.hostname)) return normalizeApiUrl(`http://${text}`);
  return `${url.protocol}//${url.host}${url.pathname.replace(/\/+$/, "")}`;
}

/** True for an API on this machine. */
export function isLoopback(apiUrl: string): boolean {
  return URL.canParse(apiUrl) && isLoopbackHost(new URL(apiUrl).hostname);
}

function isLoopbackHost(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/**
 * The URL that `text` means: a built-in alias, the host (with or without port) of a `known` URL,
 * or a URL itself.
 */
export function resolveApiUrl(text: string, known: readonly string[]): string {
  const builtIn = BUILT_IN_ALIASES.get(text);
  if (builtIn) return builtIn;
  const matches = known.filter((url) => URL.canParse(url) && [new URL(url).host, new URL(url).hostname].includes(text));
  if (matches[0] !== undefined && matches.length === 1) return matches[0];
  if (matches.length > 1) throw new CliError(`${JSON.stringify(text)} can mean ${matches.join(" or ")}.`, { hint: "Write the whole URL." });
  return normalizeApiUrl(text);
}

/** Splits `-o` into its API part and its organization: `alias:org`, `https://host:1:org`, `org`. */
export function splitOrgFlag(text: string): { api: string | undefined; org: string | undefined } {
  const colon = text.lastIndexOf(":");
  if (colon < 0) return { api: undefined, org: text || undefined };
  return { api: text.slice(0, colon) || undefined, org: text.slice(colon + 1) || undefined };
}
