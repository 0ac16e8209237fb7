export { type CheckpointRecords, checkpointRecords, type CheckpointRow, type RestoreRow } from "./checkpoints.ts";
export { type Database, openDatabase } from "./database.ts";
export { type JobRecord, jobRecords, type JobRecords, type WebhookRecord } from "./jobs.ts";
export { insertOrganization, loadOrganizations, type OrganizationRecord } from "./organizations.ts";
export { spriteRecords } from "./sprite-records.ts";
export { findToken, insertToken, listTokens, revokeToken, type TokenRecord, updateLastUsed } from "./tokens.ts";
export { poolRecords } from "./pools.ts";
export { loadQuotas, saveQuotas } from "./quotas.ts";
export { templateRecords } from "./templates.ts";
