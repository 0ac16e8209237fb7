/**
 * Tells webhooks of jobs' ends until they take it or the attempts are used up (JOB-13, JOB-14).
 *
 * Invariants: what is due is in the store, so that a restart goes on; an outcome is stored before
 * the next attempt is planned; a webhook may hear of the same end more than once, never of none;
 * a receiver that does not answer takes up its own places only (JOB-19).
 */
import { after, ignore, type Logger, sleep } from "@sprited/base";
import type { JobRecord, JobRecords } from "../store/index.ts";
import { pauseAfterMs, sendWebhook } from "./webhook-request.ts";
import { webhookBody } from "./view.ts";

/** Attempts under way at once, in all and to one receiver. */
const AT_ONCE = 64;
const AT_ONCE_PER_RECEIVER = 4;
/** Longest pause between two looks into the store, ms. */
const LOOK_MS_MAX = 60_000;
/** Pause after the store could not be read or written, ms. */
const STORE_RETRY_MS = 5_000;

export interface WebhookOptions {
  records: JobRecords;
  nowMs: () => number;
  logger: Logger;
  allowPrivate: boolean;
  /** Whole attempt, ms; the usual time when left out. */
  attemptMs?: number | undefined;
  /** Called when a webhook is delivered or given up. */
  onSettled: (job: JobRecord) => void;
}

export class Webhooks {
  readonly #options: WebhookOptions;
  readonly #closing = new AbortController();
  #timer: Disposable | undefined;
  /** Attempts under way: their receivers, by job. */
  readonly #underway = new Map<string, { receiver: string; done: Promise<void> }>();

  constructor(options: WebhookOptions) {
    this.#options = options;
  }

  /** There may be something to send. */
  wake(): void {
    if (this.#closing.signal.aborted) return;
    try {
      const nextAtMs = this.#sendDue();
      if (nextAtMs !== undefined) this.#lookIn(nextAtMs - this.#options.nowMs());
    } catch (error) {
      this.#options.logger.warn({ event: "job_webhook", outcome: "failed", err: error }, "webhooks cannot be looked up; tried again");
      this.#lookIn(STORE_RETRY_MS);
    }
  }

  /** Attempts under way are broken off and repeated by the next daemon. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#timer?.[Symbol.dispose]();
    await Promise.all([...this.#underway.values()].map(({ done }) => done));
  }

  /** Begins what is due, has a place and is not under way; when the next one will be due. */
  #sendDue(): number | undefined {
    const { records, nowMs } = this.#options;
    const places = new Map<string, number>();
    const take = (receiver: string): void => void places.set(receiver, (places.get(receiver) ?? 0) + 1);
    for (const { receiver } of this.#underway.values()) take(receiver);
    for (const { jobId, spriteId, url, nextAtMs } of records.pendingWebhooks()) {
      if (nextAtMs > nowMs()) return nextAtMs;
      // Whoever gives a place back looks again.
      if (this.#underway.size >= AT_ONCE) return undefined;
      const receiver = new URL(url).host;
      if (this.#underway.has(jobId) || (places.get(receiver) ?? 0) >= AT_ONCE_PER_RECEIVER) continue;
      const job = records.find(spriteId, jobId);
      if (!job) continue;
      take(receiver);
      this.#underway.set(jobId, { receiver, done: this.#attempt(job) });
    }
    return undefined;
  }

  /** One attempt, with its outcome stored; never rejects. */
  async #attempt(job: JobRecord): Promise<void> {
    try {
      await this.#deliver(job);
    } catch (error) {
      this.#options.logger.warn({ event: "job_webhook", job: job.id, outcome: "failed", err: error }, "an attempt could not be noted");
      await sleep(STORE_RETRY_MS, { signal: this.#closing.signal }).catch(ignore("the daemon stops"));
    } finally {
      this.#underway.delete(job.id);
    }
    this.wake();
  }

  #lookIn(ms: number): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = after(Math.min(Math.max(ms, 1), LOOK_MS_MAX), () => this.wake());
  }

  async #deliver(job: JobRecord): Promise<void> {
    const { records, nowMs, logger, allowPrivate, attemptMs } = this.#options;
    const { webhook } = job;
    if (!webhook) return;
    const atMs = nowMs();
    const { signal } = this.#closing;
    const url = new URL(webhook.url);
    const result = await sendWebhook({
      url,
      jobId: job.id,
      body: webhookBody(job),
      secret: webhook.secret,
      atMs,
      allowPrivate,
      timeoutMs: attemptMs,
      signal,
    });
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
