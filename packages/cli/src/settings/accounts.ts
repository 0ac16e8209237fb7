/**
 * What the user logged in to: `~/.sprites/sprites.json` (format of the official CLI, shared with
 * it) and the tokens in `~/.sprites/tokens.json`.
 *
 * Invariants: functions here are pure and return new values; fields that are not ours are kept;
 * a token is stored under the URL and organization it belongs to and never used for another URL.
 */
import { join } from "node:path";
import { isObject, readJsonObject, removeFile, writePrivateJson } from "./files.ts";

type Json = Record<string, unknown>;

export interface Accounts {
  /** Content of `sprites.json`. */
  sprites: Json;
  /** Key of an organization → its token. */
  tokens: Record<string, string>;
}

/** One organization the user has a token for. */
export interface Account {
  apiUrl: string;
  org: string;
  /** Undefined when the entry comes from another program that keeps its token elsewhere. */
  token: string | undefined;
  selected: boolean;
}

/** The URL and organization used when nothing else is said. */
export interface Selection {
  apiUrl: string;
  org: string;
}

export function emptyAccounts(): Accounts {
  return { sprites: { version: "1", urls: {} }, tokens: {} };
}

export function listAccounts(accounts: Accounts): Account[] {
  const selection = currentSelection(accounts);
  return Object.entries(childObject(accounts.sprites, "urls")).flatMap(([apiUrl, entry]) =>
    Object.entries(childObject(isObject(entry) ? entry : {}, "orgs")).map(([org, details]) => ({
      apiUrl,
      org,
      token: accounts.tokens[keyOf(details, apiUrl, org)],
      selected: selection?.apiUrl === apiUrl && selection.org === org,
    })),
  );
}

export function currentSelection(accounts: Accounts): Selection | undefined {
  const { url, org } = childObject(accounts.sprites, "current_selection");
  return typeof url === "string" && typeof org === "string" ? { apiUrl: url, org } : undefined;
}

/** Adds or replaces a token and selects its organization. */
export function withAccount(accounts: Accounts, account: { apiUrl: string; org: string; token: string }): Accounts {
  const { apiUrl, org, token } = account;
  const key = defaultKey(apiUrl, org);
  const urls = childObject(accounts.sprites, "urls");
  const entry = childObject(urls, apiUrl);
  const orgs = childObject(entry, "orgs");
  const details = { sprites: {}, ...childObject(orgs, org), name: org, keyring_key: key, use_keyring: false };
  return {
    sprites: {
      ...accounts.sprites,
      version: "1",
      current_selection: { url: apiUrl, org },
      urls: { ...urls, [apiUrl]: { ...entry, orgs: { ...orgs, [org]: details } } },
    },
    tokens: { ...accounts.tokens, [key]: token },
  };
}

export function loadAccounts(dir: string): Accounts {
  const sprites = readJsonObject(spritesFile(dir));
  const tokens = readJsonObject(tokensFile(dir));
  const entries = Object.entries(childObject(tokens ?? {}, "tokens"));
  return {
    sprites: sprites ?? emptyAccounts().sprites,
    tokens: Object.fromEntries(entries.filter((entry): entry is [string, string] => typeof entry[1] === "string")),
  };
}

export function saveAccounts(dir: string, accounts: Accounts): void {
  writePrivateJson(tokensFile(dir), { version: "1", tokens: accounts.tokens });
  writePrivateJson(spritesFile(dir), accounts.sprites);
}

/** Removes all settings; true when there were any. */
export function removeAccounts(dir: string): boolean {
  const removed = [tokensFile(dir), spritesFile(dir)].map(removeFile);
  return removed.includes(true);
}

function spritesFile(dir: string): string {
  return join(dir, "sprites.json");
}

function tokensFile(dir: string): string {
  return join(dir, "tokens.json");
}

function keyOf(details: unknown, apiUrl: string, org: string): string {
  const key = isObject(details) ? details["keyring_key"] : undefined;
  return typeof key === "string" ? key : defaultKey(apiUrl, org);
}

function defaultKey(apiUrl: string, org: string): string {
  return `sprites:org:${apiUrl}:${org}`;
}

function childObject(parent: Json, name: string): Json {
  const child = Object.hasOwn(parent, name) ? parent[name] : undefined;
  return isObject(child) ? child : {};
}
