/** Queries on tokens. Revoked ones are kept, so that their bearers learn that they were revoked. */
import type { Database } from "./database.ts";
import type { Schema } from "./schema.ts";

export interface TokenRecord {
  id: string;
  organizationId: string;
  description: string;
  /** Hex SHA-256 of the secret part. */
  secretHash: string;
  namePrefix: string | undefined;
  admin: boolean;
  createdAtMs: number;
  lastUsedAtMs: number | undefined;
  revokedAtMs: number | undefined;
}

export function insertToken(database: Database, token: TokenRecord): void {
  database.run(
    database.query.insertInto("tokens").values({
      id: token.id,
      organization_id: token.organizationId,
      description: token.description,
      secret_hash: token.secretHash,
      name_prefix: token.namePrefix ?? null,
      admin: token.admin ? 1 : 0,
      created_at_ms: token.createdAtMs,
      last_used_at_ms: token.lastUsedAtMs ?? null,
      revoked_at_ms: token.revokedAtMs ?? null,
    }),
  );
}

export function findToken(database: Database, id: string): TokenRecord | undefined {
  const row = database.first(database.query.selectFrom("tokens").selectAll().where("id", "=", id));
  return row && fromRow(row);
}

/** An organization's tokens in the order they were made. */
export function listTokens(database: Database, organizationId: string): TokenRecord[] {
  return database
    .all(
      database.query.selectFrom("tokens").selectAll().where("organization_id", "=", organizationId).orderBy("created_at_ms").orderBy("id"),
    )
    .map(fromRow);
}

/** False when the organization has no such token. Revoking twice keeps the first time. */
export function revokeToken(database: Database, key: { organizationId: string; id: string }, atMs: number): boolean {
  const { organizationId, id } = key;
  return database.transaction(() => {
    const token = findToken(database, id);
    if (token?.organizationId !== organizationId) return false;
    database.run(database.query.updateTable("tokens").set({ revoked_at_ms: atMs }).where("id", "=", id).where("revoked_at_ms", "is", null));
    return true;
  });
}

export function updateLastUsed(database: Database, uses: ReadonlyMap<string, number>): void {
  database.transaction(() => {
    for (const [id, atMs] of uses) database.run(database.query.updateTable("tokens").set({ last_used_at_ms: atMs }).where("id", "=", id));
  });
}

function fromRow(row: Schema["tokens"]): TokenRecord {
  return {
    id: row.id,
    organizationId: row.organization_id,
    description: row.description,
    secretHash: row.secret_hash,
    namePrefix: row.name_prefix ?? undefined,
    admin: row.admin === 1,
    createdAtMs: row.created_at_ms,
    lastUsedAtMs: row.last_used_at_ms ?? undefined,
    revokedAtMs: row.revoked_at_ms ?? undefined,
  };
}
