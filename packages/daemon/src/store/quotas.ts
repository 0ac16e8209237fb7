/** Queries on the quotas of organizations. */
import type { Database } from "./database.ts";

interface QuotaRow {
  organizationId: string;
  sprites: number | undefined;
  running: number | undefined;
  diskGb: number | undefined;
  checkpoints: number | undefined;
}

export function loadQuotas(database: Database): QuotaRow[] {
  return database.all(database.query.selectFrom("organization_quotas").selectAll()).map((row) => ({
    organizationId: row.organization_id,
    sprites: row.sprites ?? undefined,
    running: row.running ?? undefined,
    diskGb: row.disk_gb ?? undefined,
    checkpoints: row.checkpoints ?? undefined,
  }));
}

export function saveQuotas(database: Database, quota: QuotaRow): void {
  database.transaction(() => {
    database.run(database.query.deleteFrom("organization_quotas").where("organization_id", "=", quota.organizationId));
    database.run(
      database.query.insertInto("organization_quotas").values({
        organization_id: quota.organizationId,
        sprites: quota.sprites ?? null,
        running: quota.running ?? null,
        disk_gb: quota.diskGb ?? null,
        checkpoints: quota.checkpoints ?? null,
      }),
    );
  });
}
