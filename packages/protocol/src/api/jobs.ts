/** Jobs on the wire: background commands with an id, a log and an outcome. Not part of the official API. */
import { z } from "zod";
import type { ErrorCode } from "../errors.ts";
import { endpoint } from "./endpoint.ts";
import { OF_MACHINE, OF_SPRITE } from "./machine-errors.ts";
import { API_LIMITS } from "./limits.ts";
import { queryBoolean, queryDuration, queryInteger } from "./query.ts";

export const jobState = z.enum(["running", "exited", "signaled", "timed_out", "lost"]);
export type JobState = z.infer<typeof jobState>;

const time = z.iso.datetime().meta({ description: "RFC 3339" });

export const jobObject = z.object({
  id: z.string(),
  state: jobState.meta({ description: "`lost`: its outcome is not known; `reason` says why" }),
  cmd: z.array(z.string()),
  dir: z.string().nullable(),
  exit_code: z.int().nullable().meta({ description: "Null while it runs, and when a signal ended it" }),
  signal: z.string().nullable().meta({ description: "Signal that ended it, without `SIG`" }),
  created_at: time,
  started_at: time.nullable(),
  ended_at: time.nullable(),
  stdout_bytes: z.int(),
  stderr_bytes: z.int(),
  timeout_seconds: z.number().nullable(),
  reason: z.string().nullable().meta({ description: "Why it is `lost` or `timed_out`" }),
  webhook_url: z.string().nullable(),
  webhook: z
    .object({
      state: z.enum(["waiting", "pending", "delivered", "failed"]).meta({ description: "`waiting`: for the job's end" }),
      attempts: z.int(),
      last_status: z.int().nullable().meta({ description: "HTTP status of the last answer" }),
      last_error: z.string().nullable(),
      next_attempt_at: time.nullable(),
    })
    .nullable(),
});
export type JobObject = z.infer<typeof jobObject>;

export const startJobRequest = z.strictObject({
  cmd: z.array(z.string()).min(1, "must name a command").meta({ description: "The command and its arguments; no shell reads them" }),
  env: z.record(z.string(), z.string()).optional().meta({ description: "Added to the sprite's environment" }),
  dir: z.string().max(4096).optional().meta({ description: "Working directory; the user's home when left out" }),
  timeout_seconds: z
    .number()
    .positive()
    .max(API_LIMITS.jobTimeoutSecondsMax)
    .optional()
    .meta({ description: "Counted from the start, also while the sprite sleeps; then TERM, after 10 s KILL" }),
  stdin: z.string().optional().meta({ description: "Input as text; left out: none" }),
  stdin_base64: z.base64().optional().meta({ description: "Input as bytes" }),
  idempotency_key: z
    .string()
    .min(1)
    .max(255)
    .optional()
    .meta({ description: "The same key with the same request gives the same job, for as long as that is kept" }),
  webhook: z
    .strictObject({
      url: z.string().max(2048).meta({ description: "Gets a POST with the job when it has ended; `http` or `https`" }),
      secret: z.string().min(1).max(1024).optional().meta({ description: "Signs it; never returned" }),
    })
    .optional(),
});
export type StartJobRequest = z.infer<typeof startJobRequest>;

const OF_JOB = [...OF_SPRITE, "job_not_found"] as const satisfies readonly ErrorCode[];
const OF_BODY = ["body_invalid", "field_unknown", "body_too_large"] as const satisfies readonly ErrorCode[];

export const jobEndpoints = {
  startJob: endpoint({
    method: "POST",
    path: "/v1/sprites/{name}/jobs",
    kind: "json",
    access: "token",
    tag: "jobs",
    summary: "Start a command in the background",
    description:
      "Wakes the sprite, starts the command and answers with its id. The job outlives the client and the server. 200 instead of 201 when the idempotency key names a job that exists.",
    body: startJobRequest,
    status: 201,
    response: jobObject,
    errors: [...OF_MACHINE, ...OF_BODY, "exec_no_command", "exec_invalid", "idempotency_key_reused", "webhook_refused"],
  }),
  listJobs: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/jobs",
    kind: "json",
    access: "token",
    tag: "jobs",
    summary: "List a sprite's jobs, newest first",
    query: z.object({
      state: jobState.optional(),
      max_results: queryInteger({ min: -(10 ** 9), max: 10 ** 9 }).optional(),
      continuation_token: z.string().max(512).optional(),
    }),
    status: 200,
    response: z.object({ jobs: z.array(jobObject), has_more: z.boolean(), next_continuation_token: z.string().nullable() }),
    errors: OF_SPRITE,
  }),
  getJob: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/jobs/{id}",
    kind: "json",
    access: "token",
    tag: "jobs",
    summary: "Look at one job",
    status: 200,
    response: jobObject,
    errors: OF_JOB,
  }),
  waitForJob: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/jobs/{id}/wait",
    kind: "json",
    access: "token",
    tag: "jobs",
    summary: "Wait for a job's end",
    description: "Answers when the job has ended or after `timeout` (default 30s, at most 5m), in both cases with the job.",
    query: z.object({ timeout: queryDuration().optional() }),
    status: 200,
    response: jobObject,
    errors: OF_JOB,
  }),
  readJobLog: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/jobs/{id}/log",
    kind: "stream",
    access: "token",
    tag: "jobs",
    summary: "Read a job's output as raw bytes",
    description:
      "`offset` counts the bytes of the stream asked for (`all`: of both together, in the order they came). `X-Log-Offset` is the offset of the first byte of the answer; it is greater than `offset` when older output is no longer kept. With `follow` the answer goes on until the job has ended; it is cut off, not ended, where bytes are missing.",
    query: z.object({
      stream: z.enum(["stdout", "stderr", "all"]).optional(),
      offset: queryInteger({ min: 0, max: Number.MAX_SAFE_INTEGER }).optional(),
      follow: queryBoolean().optional(),
    }),
    status: 200,
    stream: { contentType: "application/octet-stream" },
    errors: OF_JOB,
  }),
  signalJob: endpoint({
    method: "POST",
    path: "/v1/sprites/{name}/jobs/{id}/signal",
    kind: "json",
    access: "token",
    tag: "jobs",
    summary: "Send a signal to a job",
    body: z.strictObject({ signal: z.string().max(16) }),
    status: 200,
    response: jobObject,
    errors: [...OF_JOB, ...OF_BODY, "job_ended", "exec_invalid"],
  }),
  deleteJob: endpoint({
    method: "DELETE",
    path: "/v1/sprites/{name}/jobs/{id}",
    kind: "json",
    access: "token",
    tag: "jobs",
    summary: "Delete a job with its log; one that runs is killed first",
    status: 204,
    errors: OF_JOB,
  }),
};
