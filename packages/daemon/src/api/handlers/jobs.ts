/** Handlers of jobs. */
import { API_LIMITS, type StartJobRequest } from "@sprited/protocol/api";
import { ApiError } from "@sprited/protocol/errors";
import { signalName } from "@sprited/protocol/stream";
import type { LogQuery } from "../../exec/exec.ts";
import { type JobRequest, jobView } from "../../job/index.ts";
import type { HandlerTable } from "../handler.ts";
import { logReply } from "../log-reply.ts";

/** Wait for a job's end when the client names none, ms. */
const WAIT_MS = 30_000;
const WAIT_MS_MAX = 300_000;

type JobHandlers = "startJob" | "listJobs" | "getJob" | "waitForJob" | "readJobLog" | "signalJob" | "deleteJob";

export const jobHandlers: Pick<HandlerTable, JobHandlers> = {
  async startJob({ params, body, caller, context }) {
    const { job, created } = await context.features.jobs.start(caller.organizationId, params.name, jobRequest(body));
    return created ? jobView(job) : Response.json(jobView(job), { status: 200 });
  },

  listJobs({ params, query, caller, context }) {
    const page = context.features.jobs.list(caller.organizationId, params.name, {
      state: query.state,
      continuationToken: query.continuation_token,
      maxResults: Math.min(Math.max(query.max_results ?? API_LIMITS.pageDefault, 1), API_LIMITS.pageMax),
    });
    const { continuationToken } = page;
    return {
      jobs: page.jobs.map(jobView),
      has_more: continuationToken !== undefined,
      next_continuation_token: continuationToken ?? null,
    };
  },

  getJob({ params, caller, context }) {
    return jobView(context.features.jobs.get(caller.organizationId, params.name, params.id));
  },

  async waitForJob({ params, query, caller, context, signal }) {
    const options = {
      timeoutMs: Math.min(query.timeout ?? WAIT_MS, WAIT_MS_MAX),
      signal: AbortSignal.any([signal, context.shutdown]),
    };
    return jobView(await context.features.jobs.wait(caller.organizationId, params.name, params.id, options));
  },

  async readJobLog({ params, query, caller, context }) {
    const { jobs } = context.features;
    const { stdoutBytes, stderrBytes } = jobs.get(caller.organizationId, params.name, params.id);
    const source = {
      held: { stdout: stdoutBytes, stderr: stderrBytes, all: stdoutBytes + stderrBytes },
      read: (asked: LogQuery) => jobs.readLog(caller.organizationId, params.name, params.id, asked),
    };
    return await logReply(context, source, query);
  },

  async signalJob({ params, body, caller, context }) {
    const signal = signalName(body.signal);
    if (signal === undefined) throw new ApiError("exec_invalid", "signal is not the name of a signal", { details: { field: "signal" } });
    return jobView(await context.features.jobs.signal(caller.organizationId, params.name, params.id, signal));
  },

  async deleteJob({ params, caller, context }) {
    await context.features.jobs.delete(caller.organizationId, params.name, params.id);
    return undefined;
  },
};

function jobRequest(body: StartJobRequest): JobRequest {
  if (body.stdin !== undefined && body.stdin_base64 !== undefined)
    throw new ApiError("body_invalid", "stdin and stdin_base64 exclude each other", { details: { field: "stdin" } });
  const bytes = body.stdin_base64 === undefined ? undefined : Buffer.from(body.stdin_base64, "base64");
  return {
    argv: body.cmd,
    env: body.env ?? {},
    dir: body.dir === "" ? undefined : body.dir,
    stdin: body.stdin === undefined ? bytes : Buffer.from(body.stdin),
    timeoutMs: body.timeout_seconds === undefined ? undefined : Math.ceil(body.timeout_seconds * 1000),
    idempotencyKey: body.idempotency_key,
    webhook: body.webhook && { url: body.webhook.url, secret: body.webhook.secret },
  };
}
