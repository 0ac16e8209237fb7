/**
 * How a job becomes ended (JOB-5..8). Pure.
 *
 * Invariants: an ended job never changes its outcome; with a webhook, the end makes it pending in
 * the same record.
 */
import type { SessionEnd } from "../exec/exec.ts";
import type { JobRecord } from "../store/index.ts";

/** Facts that the exec session knows at its end. */
export interface EndFacts {
  atMs: number;
  stdoutBytes: number;
  stderrBytes: number;
}

export function isOpen(job: JobRecord): boolean {
  return job.state === "starting" || job.state === "running";
}

/** The command is known to run. */
export function runs(job: JobRecord, startedAtMs: number): JobRecord {
  return { ...job, state: "running", startedAtMs: job.startedAtMs ?? startedAtMs };
}

/** The job after its session's end. */
export function ended(job: JobRecord, end: SessionEnd, facts: EndFacts): JobRecord {
  if (!isOpen(job)) return job;
  const common = { ...closed(job, facts.atMs), stdoutBytes: facts.stdoutBytes, stderrBytes: facts.stderrBytes };
  if (end.kind === "lost") return { ...common, state: "lost", reason: end.reason };
  const exitCode = end.exit.code ?? undefined;
  const signal = exitCode === undefined ? (end.exit.signal ?? undefined) : undefined;
  if (job.timingOutAtMs !== undefined) {
    return { ...common, state: "timed_out", exitCode, signal, reason: `it did not end within ${(job.timeoutMs ?? 0) / 1000} s` };
  }
  return { ...common, state: exitCode === undefined ? "signaled" : "exited", exitCode, signal };
}

/** The job when its outcome will never be known. */
export function lost(job: JobRecord, reason: string, atMs: number): JobRecord {
  return isOpen(job) ? { ...closed(job, atMs), state: "lost", reason } : job;
}

function closed(job: JobRecord, atMs: number): JobRecord {
  return { ...job, endedAtMs: atMs, webhook: job.webhook && { ...job.webhook, state: "pending", nextAtMs: atMs } };
}
