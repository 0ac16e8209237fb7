/**
 * Queries on sprites. The hub holds all sprites in memory and reads them once, at start; after
 * that the store is written only. The state is a JSON value whose form only the sprite's driver
 * knows; here it has a kind and a version.
 */
import type { Database } from "./database.ts";
import { StoreError } from "./errors.ts";
import type { Schema } from "./schema.ts";

/** Version of the state's JSON form. A change that old records do not fit needs a migration. */
const STATE_VERSION = 1;

export interface SpriteRecord {
  id: string;
  organizationId: string;
  name: string;
  config: { cpus: number; memoryMib: number; storageGb: number };
  environment: Record<string, string>;
  labels: string[];
  urlSettings: { auth: "sprite" | "public"; privateAccess: string | undefined };
  idleSeconds?: number | undefined;
  imageName: string;
  imageDigest: string;
  createdAtMs: number;
  updatedAtMs: number;
  lastRunningAtMs: number | undefined;
  poolId?: string | undefined;
}

/** What every state has. */
export interface StateRecord {
  kind: string;
}

export function loadSprites<State extends StateRecord>(database: Database): { sprite: SpriteRecord; state: State }[] {
  return database
    .all(database.query.selectFrom("sprites").selectAll())
    .map((row) => ({ sprite: fromRow(row), state: stateOf<State>(row) }));
}

/** Throws when the name is taken in the organization. */
export function insertSprite(database: Database, sprite: SpriteRecord, state: StateRecord): void {
  database.run(
    database.query.insertInto("sprites").values({
      id: sprite.id,
      created_at_ms: sprite.createdAtMs,
      image_name: sprite.imageName,
      image_digest: sprite.imageDigest,
      last_running_at_ms: sprite.lastRunningAtMs ?? null,
      ...userColumns(sprite),
      ...stateColumns(state),
    }),
  );
}

/** Writes a spare that became a sprite: what users may change, and when it was made for them. */
export function updateClaimed(database: Database, sprite: SpriteRecord): void {
  const columns = { ...userColumns(sprite), created_at_ms: sprite.createdAtMs };
  database.run(database.query.updateTable("sprites").set(columns).where("id", "=", sprite.id));
}

/** Writes what users may change; never the state. */
export function updateSprite(database: Database, sprite: SpriteRecord): void {
  database.run(database.query.updateTable("sprites").set(userColumns(sprite)).where("id", "=", sprite.id));
}

export function updateSpriteState(
  database: Database,
  spriteId: string,
  state: StateRecord,
  change: { lastRunningAtMs?: number | undefined; unflushed?: boolean | undefined } = {},
): void {
  const columns =
    change.lastRunningAtMs === undefined ? stateColumns(state) : { ...stateColumns(state), last_running_at_ms: change.lastRunningAtMs };
  const query = database.query.updateTable("sprites").set(columns).where("id", "=", spriteId);
  if (change.unflushed === true) database.runUnflushed(query);
  else database.run(query);
}

/** Fails while the sprite has a VM on record. */
export function deleteSprite(database: Database, spriteId: string): void {
  database.run(database.query.deleteFrom("sprites").where("id", "=", spriteId));
}

function userColumns(sprite: SpriteRecord) {
  return {
    organization_id: sprite.organizationId,
    name: sprite.name,
    cpus: sprite.config.cpus,
    memory_mib: sprite.config.memoryMib,
    storage_gb: sprite.config.storageGb,
    environment: JSON.stringify(sprite.environment),
    labels: JSON.stringify(sprite.labels),
    url_auth: sprite.urlSettings.auth,
    url_private_access: sprite.urlSettings.privateAccess ?? null,
    idle_seconds: sprite.idleSeconds ?? null,
    pool_id: sprite.poolId ?? null,
    updated_at_ms: sprite.updatedAtMs,
  };
}

function stateColumns(state: StateRecord) {
  return { state: JSON.stringify(state), state_version: STATE_VERSION, state_kind: state.kind };
}

function fromRow(row: Schema["sprites"]): SpriteRecord {
  return {
    id: row.id,
    organizationId: row.organization_id,
    name: row.name,
    config: { cpus: row.cpus, memoryMib: row.memory_mib, storageGb: row.storage_gb },
    environment: parse<Record<string, string>>(row, row.environment),
    labels: parse<string[]>(row, row.labels),
    urlSettings: { auth: row.url_auth === "public" ? "public" : "sprite", privateAccess: row.url_private_access ?? undefined },
    idleSeconds: row.idle_seconds ?? undefined,
    imageName: row.image_name,
    imageDigest: row.image_digest,
    createdAtMs: row.created_at_ms,
    updatedAtMs: row.updated_at_ms,
    lastRunningAtMs: row.last_running_at_ms ?? undefined,
    poolId: row.pool_id ?? undefined,
  };
}

function stateOf<State extends StateRecord>(row: Schema["sprites"]): State {
  if (row.state_version !== STATE_VERSION)
    throw new StoreError("store_newer", `sprite ${row.id}: a state of version ${row.state_version}, this program knows ${STATE_VERSION}`);
  return parse<State>(row, row.state);
}

function parse<T>(row: { id: string }, text: string): T {
  try {
    return JSON.parse(text) as T;
  } catch (cause) {
    throw new StoreError("store_damaged", `sprite ${row.id}: a record that is not JSON`, { cause });
  }
}
