/**
 * Tells webhooks of jobs' ends until they take it or the attempts are used up (JOB-13, JOB-14).
 *
 * Invariants: what is due is in the store, so that a restart goes on; an outcome is stored before
 * the next attempt is planned; a webhook may hear of the same end more than once, never of none.
 */
import { after, type Logger } from "@sprited/base";
import type { JobRecord, JobRecords } from "../store/index.ts";
import { pauseAfterMs, sendWebhook } from "./webhook-request.ts";
import { webhookBody } from "./view.ts";

/** Sent at once. */
const AT_ONCE = 16;
/** Longest pause between two looks into the store, ms. */
const LOOK_MS_MAX = 60_000;

export interface WebhookOptions {
  records: JobRecords;
  nowMs: () => number;
  logger: Logger;
  allowPrivate: boolean;
  /** Called when a webhook is delivered or given up. */
  onSettled: (job: JobRecord) => void;
}

export class Webhooks {
  readonly #options: WebhookOptions;
  readonly #closing = new AbortController();
  #timer: Disposable | undefined;
  #work: Promise<void> | undefined;
  #again = false;

  constructor(options: WebhookOptions) {
    this.#options = options;
  }

  /** There may be something to send. */
  wake(): void {
    if (this.#closing.signal.aborted) return;
    this.#again = true;
    this.#work ??= this.#run().finally(() => (this.#work = undefined));
  }

  /** Attempts under way are broken off and repeated by the next daemon. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#timer?.[Symbol.dispose]();
    await this.#work;
  }

  async #run(): Promise<void> {
    const { records, nowMs } = this.#options;
    while (this.#again && !this.#closing.signal.aborted) {
      this.#again = false;
      const pending = records.pendingWebhooks(AT_ONCE);
      const due = pending.filter((job) => (job.webhook?.nextAtMs ?? 0) <= nowMs());
      if (due.length > 0) {
        await Promise.all(due.map((job) => this.#deliver(job)));
        this.#again = true;
      } else if (pending[0]) this.#lookAt(pending[0].webhook?.nextAtMs ?? 0);
    }
  }

  #lookAt(atMs: number): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = after(Math.min(Math.max(atMs - this.#options.nowMs(), 1), LOOK_MS_MAX), () => this.wake());
  }

  async #deliver(job: JobRecord): Promise<void> {
    const { records, nowMs, logger, allowPrivate } = this.#options;
    const { webhook } = job;
    if (!webhook) return;
    const atMs = nowMs();
    const { signal } = this.#closing;
    const asked = { url: new URL(webhook.url), jobId: job.id, body: webhookBody(job), secret: webhook.secret, atMs, allowPrivate, signal };
    const result = await sendWebhook(asked);
    if (signal.aborted && !result.delivered) return;
    const attempts = webhook.attempts + 1;
    const pauseMs = result.delivered || result.final ? undefined : pauseAfterMs(attempts);
    const state = result.delivered ? ("delivered" as const) : pauseMs === undefined ? ("failed" as const) : ("pending" as const);
    const settled: JobRecord = {
      ...job,
      webhook: {
        ...webhook,
        state,
        attempts,
        status: result.status,
        error: result.delivered ? undefined : result.error,
        nextAtMs: pauseMs === undefined ? undefined : nowMs() + pauseMs,
      },
    };
    records.update(settled);
    logger.info({ event: "job_webhook", job: job.id, outcome: state, attempts, status: result.status }, "webhook of a job");
    if (state !== "pending") this.#options.onSettled(settled);
  }
}
