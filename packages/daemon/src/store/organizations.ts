/** Queries on organizations. */
import { type Database, isTaken } from "./database.ts";
import type { Schema } from "./schema.ts";

export interface OrganizationRecord {
  id: string;
  slug: string;
  name: string;
  createdAtMs: number;
}

/** False when the slug is taken. */
export function insertOrganization(database: Database, organization: OrganizationRecord): boolean {
  const { id, slug, name, createdAtMs } = organization;
  try {
    database.run(database.query.insertInto("organizations").values({ id, slug, name, created_at_ms: createdAtMs }));
    return true;
  } catch (error) {
    if (isTaken(error)) return false;
    throw error;
  }
}

/** All organizations by slug. */
export function loadOrganizations(database: Database): OrganizationRecord[] {
  return database.all(database.query.selectFrom("organizations").selectAll().orderBy("slug")).map(fromRow);
}

function fromRow(row: Schema["organizations"]): OrganizationRecord {
  return { id: row.id, slug: row.slug, name: row.name, createdAtMs: row.created_at_ms };
}
