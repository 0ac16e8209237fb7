/**
 * Queries on jobs. The environment of a job is never stored; its input only until the command
 * has it.
 */
import type { Database } from "./database.ts";
import { StoreError } from "./errors.ts";
import type { Schema } from "./schema.ts";

/** States of jobs that have not ended. */
const OPEN_STATES = ["starting", "running"];

export interface WebhookRecord {
  url: string;
  /** Secret. */
  secret: string | undefined;
  state: "waiting" | "pending" | "delivered" | "failed";
  attempts: number;
  /** HTTP status of the last answer. */
  status: number | undefined;
  error: string | undefined;
  nextAtMs: number | undefined;
}

export interface JobRecord {
  id: string;
  organizationId: string;
  spriteId: string;
  spriteName: string;
  state: "starting" | "running" | "exited" | "signaled" | "timed_out" | "lost";
  reason: string | undefined;
  argv: string[];
  dir: string | undefined;
  timeoutMs: number | undefined;
  timingOutAtMs: number | undefined;
  idempotencyKey: string | undefined;
  requestHash: string;
  createdAtMs: number;
  startedAtMs: number | undefined;
  endedAtMs: number | undefined;
  exitCode: number | undefined;
  signal: string | undefined;
  stdoutBytes: number;
  stderrBytes: number;
  webhook: WebhookRecord | undefined;
}

export type JobRecords = ReturnType<typeof jobRecords>;

export function jobRecords(database: Database) {
  return { ...changes(database), ...single(database), ...lists(database), ...webhooks(database) };
}

function changes(database: Database) {
  const { query } = database;
  return {
    insert(job: JobRecord, stdin: Uint8Array | undefined): void {
      database.run(query.insertInto("jobs").values({ ...toRow(job), stdin: stdin ?? null }));
    },
    /** Everything but the input; a job that is not there stays so. */
    update(job: JobRecord): void {
      database.run(query.updateTable("jobs").set(toRow(job)).where("id", "=", job.id));
    },
    inputTaken(id: string): void {
      database.run(query.updateTable("jobs").set({ stdin: null }).where("id", "=", id));
    },
    delete(id: string): void {
      database.run(query.deleteFrom("jobs").where("id", "=", id));
    },
  };
}

function single(database: Database) {
  const { query } = database;
  const columns = query.selectFrom("jobs").selectAll();
  return {
    input(id: string): Uint8Array | undefined {
      return database.first(query.selectFrom("jobs").select("stdin").where("id", "=", id))?.stdin ?? undefined;
    },
    find(spriteId: string, id: string): JobRecord | undefined {
      const row = database.first(columns.where("id", "=", id).where("sprite_id", "=", spriteId));
      return row && fromRow(row);
    },
    findByKey(spriteId: string, idempotencyKey: string): JobRecord | undefined {
      const row = database.first(columns.where("sprite_id", "=", spriteId).where("idempotency_key", "=", idempotencyKey));
      return row && fromRow(row);
    },
  };
}

function lists(database: Database) {
  const { query } = database;
  const columns = query.selectFrom("jobs").selectAll();
  return {
    /** Jobs that have not ended, of all sprites or of one. */
    open(spriteId?: string): JobRecord[] {
      const open = columns.where("state", "in", OPEN_STATES);
      return database.all(spriteId === undefined ? open : open.where("sprite_id", "=", spriteId)).map(fromRow);
    },
    /** Newest first; `before` is the last one of the page before. */
    page(
      spriteId: string,
      options: { states: readonly string[] | undefined; before: { createdAtMs: number; id: string } | undefined; maxResults: number },
    ): JobRecord[] {
      const { states, before } = options;
      let page = columns.where("sprite_id", "=", spriteId);
      if (states) page = page.where("state", "in", states);
      if (before)
        page = page.where((e) =>
          e.or([
            e("created_at_ms", "<", before.createdAtMs),
            e.and([e("created_at_ms", "=", before.createdAtMs), e("id", "<", before.id)]),
          ]),
        );
      return database.all(page.orderBy("created_at_ms", "desc").orderBy("id", "desc").limit(options.maxResults)).map(fromRow);
    },
    /** Ended jobs that ended before a time. */
    endedBefore(atMs: number): JobRecord[] {
      return database.all(columns.where("ended_at_ms", "<", atMs).limit(1000)).map(fromRow);
    },
    /** A sprite's ended jobs beyond the newest `kept`. */
    endedBeyond(spriteId: string, kept: number): JobRecord[] {
      const ended = columns.where("sprite_id", "=", spriteId).where("ended_at_ms", "is not", null);
      return database.all(ended.orderBy("ended_at_ms", "desc").orderBy("id", "desc").limit(1000).offset(kept)).map(fromRow);
    },
    /** Ids of the sprites that have jobs. */
    spriteIds(): string[] {
      return database.all(query.selectFrom("jobs").select("sprite_id").distinct()).map((row) => row.sprite_id);
    },
    ofSprite(spriteId: string): JobRecord[] {
      return database.all(columns.where("sprite_id", "=", spriteId)).map(fromRow);
    },
  };
}

function webhooks(database: Database) {
  const { query } = database;
  return {
    /** Webhooks that are to be sent, the most urgent first: as little as tells which is next. */
    pendingWebhooks(): { jobId: string; spriteId: string; url: string; nextAtMs: number }[] {
      const pending = query.selectFrom("jobs").select(["id", "sprite_id", "webhook_url", "webhook_next_at_ms"]);
      return database.all(pending.where("webhook_state", "=", "pending").orderBy("webhook_next_at_ms")).map((row) => ({
        jobId: row.id,
        spriteId: row.sprite_id,
        url: row.webhook_url ?? "",
        nextAtMs: row.webhook_next_at_ms ?? 0,
      }));
    },
  };
}

function toRow(job: JobRecord): Omit<Schema["jobs"], "stdin"> {
  return {
    id: job.id,
    organization_id: job.organizationId,
    sprite_id: job.spriteId,
    sprite_name: job.spriteName,
    state: job.state,
    reason: job.reason ?? null,
    argv: JSON.stringify(job.argv),
    dir: job.dir ?? null,
    timeout_ms: job.timeoutMs ?? null,
    timing_out_at_ms: job.timingOutAtMs ?? null,
    idempotency_key: job.idempotencyKey ?? null,
    request_hash: job.requestHash,
    created_at_ms: job.createdAtMs,
    started_at_ms: job.startedAtMs ?? null,
    ended_at_ms: job.endedAtMs ?? null,
    exit_code: job.exitCode ?? null,
    signal: job.signal ?? null,
    stdout_bytes: job.stdoutBytes,
    stderr_bytes: job.stderrBytes,
    webhook_url: job.webhook?.url ?? null,
    webhook_secret: job.webhook?.secret ?? null,
    webhook_state: job.webhook?.state ?? null,
    webhook_attempts: job.webhook?.attempts ?? 0,
    webhook_status: job.webhook?.status ?? null,
    webhook_error: job.webhook?.error ?? null,
    webhook_next_at_ms: job.webhook?.nextAtMs ?? null,
  };
}

function fromRow(row: Schema["jobs"]): JobRecord {
  return {
    id: row.id,
    organizationId: row.organization_id,
    spriteId: row.sprite_id,
    spriteName: row.sprite_name,
    state: row.state as JobRecord["state"],
    reason: row.reason ?? undefined,
    argv: parseArgv(row),
    dir: row.dir ?? undefined,
    timeoutMs: row.timeout_ms ?? undefined,
    timingOutAtMs: row.timing_out_at_ms ?? undefined,
    idempotencyKey: row.idempotency_key ?? undefined,
    requestHash: row.request_hash,
    createdAtMs: row.created_at_ms,
    startedAtMs: row.started_at_ms ?? undefined,
    endedAtMs: row.ended_at_ms ?? undefined,
    exitCode: row.exit_code ?? undefined,
    signal: row.signal ?? undefined,
    stdoutBytes: row.stdout_bytes,
    stderrBytes: row.stderr_bytes,
    webhook: webhookOf(row),
  };
}

function webhookOf(row: Schema["jobs"]): WebhookRecord | undefined {
  if (row.webhook_url === null || row.webhook_state === null) return undefined;
  return {
    url: row.webhook_url,
    secret: row.webhook_secret ?? undefined,
    state: row.webhook_state as WebhookRecord["state"],
    attempts: row.webhook_attempts,
    status: row.webhook_status ?? undefined,
    error: row.webhook_error ?? undefined,
    nextAtMs: row.webhook_next_at_ms ?? undefined,
  };
}

function parseArgv(row: Schema["jobs"]): string[] {
  try {
    return JSON.parse(row.argv) as string[];
  } catch (cause) {
    throw new StoreError("store_damaged", `job ${row.id}: a record that is not JSON`, { cause });
  }
}
