/**
 * The calls on sprites and organizations. Answers are read leniently, so that other servers of the
 * same API work: only a sprite's name is needed, everything else may be missing.
 */
import { ConnectionError } from "@sprited/protocol/client/errors";
import { isObject } from "../settings/files.ts";
import { type ApiAddress, callApi } from "./http.ts";

/** Deadline of calls that make or free disks, ms. */
const SLOW_CALL_TIMEOUT_MS = 180_000;
/** Sprites asked for on one page. */
const PAGE_SIZE = 500;
/** Pages after which a list counts as endless. */
const PAGES_MAX = 10_000;

export interface SpriteInfo {
  name: string;
  organization: string | undefined;
  status: string | undefined;
  url: string | undefined;
  urlAuth: string | undefined;
  privateAccess: string | undefined;
  labels: string[];
  cpus: number | undefined;
  /** MB. */
  ram: number | undefined;
  /** GB. */
  storage: number | undefined;
  image: string | undefined;
  createdAt: string | undefined;
  lastRunningAt: string | undefined;
  /** Why it cannot be used. */
  failure: string | undefined;
  /** Why what ran in it could not be kept over its sleep. */
  memoryLost: string | undefined;
  /** The answer as it came. */
  raw: Record<string, unknown>;
}

export interface NewSprite {
  name: string;
  labels: string[];
  image: string | undefined;
  template: string | undefined;
  cpus: number | undefined;
  ramMb: number | undefined;
  storageGb: number | undefined;
}

export async function createSprite(address: ApiAddress, sprite: NewSprite, signal?: AbortSignal): Promise<SpriteInfo> {
  const config = { cpus: sprite.cpus, ram_mb: sprite.ramMb, storage_gb: sprite.storageGb };
  const body = {
    name: sprite.name,
    ...(sprite.labels.length > 0 ? { labels: sprite.labels } : {}),
    ...(Object.values(config).some((value) => value !== undefined) ? { config } : {}),
    ...(sprite.image === undefined ? {} : { image: sprite.image }),
    ...(sprite.template === undefined ? {} : { template: sprite.template }),
  };
  return readSprite(await callApi(address, { method: "POST", path: "/v1/sprites", body, timeoutMs: SLOW_CALL_TIMEOUT_MS, signal }));
}

export async function getSprite(address: ApiAddress, name: string): Promise<SpriteInfo> {
  return readSprite(await callApi(address, { method: "GET", path: spritePath(name) }));
}

export async function updateSprite(
  address: ApiAddress,
  name: string,
  change: { url_settings: Record<string, string> },
): Promise<SpriteInfo> {
  const answer = await callApi(address, { method: "PUT", path: spritePath(name), body: change });
  return readSprite({ name, ...(isObject(answer) ? answer : {}) });
}

export async function deleteSprite(address: ApiAddress, name: string): Promise<void> {
  await callApi(address, { method: "DELETE", path: spritePath(name), timeoutMs: SLOW_CALL_TIMEOUT_MS });
}

/** `cold`: only its disk is kept. */
export async function sleepSprite(address: ApiAddress, name: string, cold: boolean): Promise<SpriteInfo> {
  const path = `${spritePath(name)}/sleep`;
  return readSprite(await callApi(address, { method: "POST", path, body: { cold }, timeoutMs: SLOW_CALL_TIMEOUT_MS }));
}

/** Resolves when commands can run in it. */
export async function wakeSprite(address: ApiAddress, name: string): Promise<SpriteInfo> {
  return readSprite(await callApi(address, { method: "POST", path: `${spritePath(name)}/wake`, timeoutMs: SLOW_CALL_TIMEOUT_MS }));
}

/** All sprites whose name begins with `prefix`, page by page. */
export async function listSprites(address: ApiAddress, prefix: string | undefined): Promise<SpriteInfo[]> {
  const sprites: SpriteInfo[] = [];
  let continuation: string | undefined;
  for (let page = 0; page < PAGES_MAX; page++) {
    const answer = await callApi(address, { method: "GET", path: listPath({ prefix, continuation }) });
    if (!isObject(answer) || !Array.isArray(answer["sprites"]))
      throw new ConnectionError("bad_answer", "the list of sprites is not of this API");
    sprites.push(...answer["sprites"].map(readSprite));
    continuation = answer["has_more"] === true ? text(answer["next_continuation_token"]) : undefined;
    if (continuation === undefined) return sprites;
  }
  throw new ConnectionError("bad_answer", "the list of sprites does not end");
}

/** Slug of the organization that the token belongs to. */
export async function getOrganization(address: ApiAddress): Promise<string> {
  const answer = await callApi(address, { method: "GET", path: "/v1/organization" });
  const organization = isObject(answer) ? answer["organization"] : undefined;
  const slug = isObject(organization) ? text(organization["slug"]) : undefined;
  if (slug === undefined) throw new ConnectionError("bad_answer", `${address.apiUrl} did not say which organization the token belongs to`);
  return slug;
}

/** A running command as `GET …/exec` lists it. */
export interface SessionSummary {
  id: string;
  command: string;
  tty: boolean;
}

export async function listSessions(address: ApiAddress, name: string): Promise<SessionSummary[]> {
  const answer = await callApi(address, { method: "GET", path: `${spritePath(name)}/exec` });
  const sessions = isObject(answer) ? answer["sessions"] : undefined;
  if (!Array.isArray(sessions)) throw new ConnectionError("bad_answer", "the list of sessions is not of this API");
  return sessions
    .filter(isObject)
    .map((session) => ({ id: String(session["id"] ?? ""), command: text(session["command"]) ?? "", tty: session["tty"] === true }));
}

export function listPath(query: { prefix?: string | undefined; continuation?: string | undefined }): string {
  const parameters = new URLSearchParams({ max_results: String(PAGE_SIZE) });
  if (query.prefix !== undefined) parameters.set("prefix", query.prefix);
  if (query.continuation !== undefined) parameters.set("continuation_token", query.continuation);
  return `/v1/sprites?${parameters.toString()}`;
}

function spritePath(name: string): string {
  return `/v1/sprites/${encodeURIComponent(name)}`;
}

/** Reads a sprite object. Throws when it has no name. */
export function readSprite(value: unknown): SpriteInfo {
  const raw = isObject(value) ? value : {};
  const name = text(raw["name"]);
  if (name === undefined) throw new ConnectionError("bad_answer", "the answer is not a sprite");
  const config = isObject(raw["config"]) ? raw["config"] : {};
  const settings = isObject(raw["url_settings"]) ? raw["url_settings"] : {};
  return {
    name,
    organization: text(raw["organization"]) ?? text(raw["org_slug"]),
    status: text(raw["status"]),
    url: text(raw["url"]),
    urlAuth: text(settings["auth"]),
    privateAccess: text(settings["private_access"]),
    labels: Array.isArray(raw["labels"]) ? raw["labels"].map(String) : [],
    cpus: number(config["cpus"]),
    ram: number(config["ram_mb"]),
    storage: number(config["storage_gb"]),
    image: text(raw["image"]),
    createdAt: text(raw["created_at"]),
    lastRunningAt: text(raw["last_running_at"]),
    failure: text(raw["failure"]),
    memoryLost: text(raw["memory_lost"]),
    raw,
  };
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

function number(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}
