/** Queries on versions of templates. What only the template feature knows is JSON. */
import type { Database } from "./database.ts";
import { StoreError } from "./errors.ts";

interface TemplateRow {
  id: string;
  organizationId: string;
  name: string;
  version: number;
  isCurrent: boolean;
  createdAtMs: number;
}

/** `Version` is what was stored; its form beyond `TemplateRow` is the caller's. */
export function templateRecords<Version extends TemplateRow>(database: Database) {
  const { query } = database;
  const setCurrent = (organizationId: string, name: string, version: number): void => {
    const ofName = query.updateTable("template_versions").where("organization_id", "=", organizationId).where("name", "=", name);
    database.run(ofName.set({ is_current: 0 }));
    database.run(ofName.set({ is_current: 1 }).where("version", "=", version));
  };
  return {
    loadTemplates: (): Version[] =>
      database
        .all(query.selectFrom("template_versions").selectAll().orderBy("version"))
        .map((row) => ({ ...parse<Version>(row), isCurrent: row.is_current === 1 })),
    insertTemplate: (version: Version): void =>
      database.transaction(() => {
        database.run(
          query.insertInto("template_versions").values({
            id: version.id,
            organization_id: version.organizationId,
            name: version.name,
            version: version.version,
            is_current: 0,
            content: JSON.stringify(version),
            created_at_ms: version.createdAtMs,
          }),
        );
        setCurrent(version.organizationId, version.name, version.version);
      }),
    promoteTemplate: (organizationId: string, name: string, version: number): void =>
      database.transaction(() => setCurrent(organizationId, name, version)),
    deleteTemplate: (organizationId: string, name: string): void => {
      database.run(query.deleteFrom("template_versions").where("organization_id", "=", organizationId).where("name", "=", name));
    },
  };
}

function parse<Version>(row: { id: string; content: string }): Version {
  try {
    return JSON.parse(row.content) as Version;
  } catch (cause) {
    throw new StoreError("store_damaged", `template ${row.id}: a record that is not JSON`, { cause });
  }
}
