/** A job as it is shown: by the API and in webhooks. */
import type { JobObject } from "@sprited/protocol/api";
import type { JobRecord } from "../store/index.ts";

export function jobView(job: JobRecord): JobObject {
  return {
    id: job.id,
    state: job.state === "starting" ? "running" : job.state,
    cmd: job.argv,
    dir: job.dir ?? null,
    exit_code: job.exitCode ?? null,
    signal: job.signal ?? null,
    created_at: time(job.createdAtMs),
    started_at: maybeTime(job.startedAtMs),
    ended_at: maybeTime(job.endedAtMs),
    stdout_bytes: job.stdoutBytes,
    stderr_bytes: job.stderrBytes,
    timeout_seconds: job.timeoutMs === undefined ? null : job.timeoutMs / 1000,
    reason: job.reason ?? null,
    webhook_url: job.webhook?.url ?? null,
    webhook: job.webhook
      ? {
          state: job.webhook.state,
          attempts: job.webhook.attempts,
          last_status: job.webhook.status ?? null,
          last_error: job.webhook.error ?? null,
          next_attempt_at: job.webhook.state === "pending" ? maybeTime(job.webhook.nextAtMs) : null,
        }
      : null,
  };
}

/** What a webhook gets. */
export function webhookBody(job: JobRecord): string {
  const { webhook: _, ...facts } = jobView(job);
  return JSON.stringify({ type: "job.ended", sprite: job.spriteName, job: facts });
}

function time(ms: number): string {
  return new Date(ms).toISOString();
}

function maybeTime(ms: number | undefined): string | null {
  return ms === undefined ? null : time(ms);
}
