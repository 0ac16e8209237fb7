/** The calls on jobs. */
import { ConnectionError } from "@sprited/protocol/client/errors";
import { isObject } from "../settings/files.ts";
import type { Target } from "../settings/load.ts";
import { type ByteAnswer, callApi, openBytes } from "./http.ts";

/** Deadline of a start: the sprite may have to wake, ms. */
const START_TIMEOUT_MS = 60_000;
/** Jobs asked for on one page. */
const PAGE_SIZE = 200;
/** Pages after which a list counts as endless. */
const PAGES_MAX = 10_000;

export interface JobInfo {
  id: string;
  state: string;
  cmd: string[];
  exitCode: number | undefined;
  signal: string | undefined;
  createdAt: string | undefined;
  startedAt: string | undefined;
  endedAt: string | undefined;
  stdoutBytes: number;
  stderrBytes: number;
  reason: string | undefined;
  webhook: { state: string; attempts: number; lastError: string | undefined } | undefined;
  /** The answer as it came. */
  raw: Record<string, unknown>;
}

export interface NewJob {
  argv: readonly string[];
  env: Readonly<Record<string, string>>;
  dir: string | undefined;
  stdin: Uint8Array | undefined;
  timeoutMs: number | undefined;
  idempotencyKey: string | undefined;
  webhook: { url: string; secret: string | undefined } | undefined;
}

export async function startJob(target: Target, job: NewJob): Promise<JobInfo> {
  const body = {
    cmd: job.argv,
    ...(Object.keys(job.env).length > 0 ? { env: job.env } : {}),
    ...(job.dir === undefined ? {} : { dir: job.dir }),
    ...(job.stdin === undefined ? {} : { stdin_base64: Buffer.from(job.stdin).toString("base64") }),
    ...(job.timeoutMs === undefined ? {} : { timeout_seconds: job.timeoutMs / 1000 }),
    ...(job.idempotencyKey === undefined ? {} : { idempotency_key: job.idempotencyKey }),
    ...(job.webhook === undefined ? {} : { webhook: job.webhook }),
  };
  return readJob(await callApi(target.server, { method: "POST", path: jobsPath(target), body, timeoutMs: START_TIMEOUT_MS }));
}

/** All jobs, newest first. */
export async function listJobs(target: Target, state?: string): Promise<JobInfo[]> {
  const jobs: JobInfo[] = [];
  let token: string | undefined;
  for (let page = 0; page < PAGES_MAX; page++) {
    const query = new URLSearchParams({ max_results: String(PAGE_SIZE), ...(state ? { state } : {}) });
    if (token !== undefined) query.set("continuation_token", token);
    const answer = await callApi(target.server, { method: "GET", path: `${jobsPath(target)}?${query.toString()}` });
    if (!isObject(answer) || !Array.isArray(answer["jobs"])) throw new ConnectionError("bad_answer", "the list of jobs is not of this API");
    jobs.push(...answer["jobs"].map(readJob));
    token = answer["has_more"] === true ? text(answer["next_continuation_token"]) : undefined;
    if (token === undefined) return jobs;
  }
  throw new ConnectionError("bad_answer", "the list of jobs does not end");
}

export async function getJob(target: Target, id: string): Promise<JobInfo> {
  return readJob(await callApi(target.server, { method: "GET", path: jobPath(target, id) }));
}

/** The job once it has ended, or as it is after `waitMs`. */
export async function waitForJob(target: Target, id: string, waitMs: number): Promise<JobInfo> {
  const path = `${jobPath(target, id)}/wait?timeout=${waitMs}ms`;
  return readJob(await callApi(target.server, { method: "GET", path, timeoutMs: waitMs + 30_000 }));
}

export async function signalJob(target: Target, id: string, signal: string): Promise<void> {
  await callApi(target.server, { method: "POST", path: `${jobPath(target, id)}/signal`, body: { signal } });
}

export async function deleteJob(target: Target, id: string): Promise<void> {
  await callApi(target.server, { method: "DELETE", path: jobPath(target, id) });
}

/** Output from `offset`; the answer's `x-log-offset` says where it begins. */
export async function openJobLog(
  target: Target,
  id: string,
  query: { stream: string; offset: number; follow: boolean },
): Promise<ByteAnswer> {
  const parameters = new URLSearchParams({ stream: query.stream, offset: String(query.offset), follow: String(query.follow) });
  return await openBytes(target.server, { method: "GET", path: `${jobPath(target, id)}/log?${parameters.toString()}` });
}

function jobsPath(target: Target): string {
  return `/v1/sprites/${encodeURIComponent(target.sprite)}/jobs`;
}

function jobPath(target: Target, id: string): string {
  return `${jobsPath(target)}/${encodeURIComponent(id)}`;
}

function readJob(value: unknown): JobInfo {
  const raw = isObject(value) ? value : {};
  const id = text(raw["id"]);
  if (id === undefined) throw new ConnectionError("bad_answer", "the answer is not a job");
  const webhook = isObject(raw["webhook"]) ? raw["webhook"] : undefined;
  return {
    id,
    state: text(raw["state"]) ?? "",
    cmd: Array.isArray(raw["cmd"]) ? raw["cmd"].map(String) : [],
    exitCode: count(raw["exit_code"]),
    signal: text(raw["signal"]),
    createdAt: text(raw["created_at"]),
    startedAt: text(raw["started_at"]),
    endedAt: text(raw["ended_at"]),
    stdoutBytes: count(raw["stdout_bytes"]) ?? 0,
    stderrBytes: count(raw["stderr_bytes"]) ?? 0,
    reason: text(raw["reason"]),
    webhook: webhook && {
      state: text(webhook["state"]) ?? "",
      attempts: count(webhook["attempts"]) ?? 0,
      lastError: text(webhook["last_error"]),
    },
    raw,
  };
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

function count(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}
