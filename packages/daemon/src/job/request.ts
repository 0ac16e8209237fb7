/** From a request to what is stored and started. Pure. */
import { createHash, randomInt } from "node:crypto";
import { API_LIMITS, commandProblem } from "@sprited/protocol/api";
import { ApiError } from "@sprited/protocol/errors";

/** What to run. */
export interface JobRequest {
  argv: string[];
  env: Record<string, string>;
  dir: string | undefined;
  /** All of its input; undefined: none. */
  stdin: Uint8Array | undefined;
  timeoutMs: number | undefined;
  idempotencyKey: string | undefined;
  /** `secret` signs what is sent; it is never shown. */
  webhook: { url: string; secret: string | undefined } | undefined;
}

/** Throws `exec_no_command`, `exec_invalid`, `body_too_large`. */
export function requireStartable(request: JobRequest): void {
  if (!request.argv[0]) throw new ApiError("exec_no_command", "cmd must name a command", { details: { field: "cmd" } });
  const problem = commandProblem(request.argv, request.env);
  if (problem !== undefined) throw new ApiError("exec_invalid", problem, { details: { field: "cmd" } });
  if (Object.keys(request.env).some((name) => name === "" || name.includes("=")))
    throw new ApiError("exec_invalid", 'a variable\'s name is not empty and has no "="', { details: { field: "env" } });
  if (request.dir?.includes("\0")) throw new ApiError("exec_invalid", "dir has a NUL byte", { details: { field: "dir" } });
  if ((request.stdin?.length ?? 0) > API_LIMITS.jobInputBytesMax)
    throw new ApiError("body_too_large", `a job's input has at most ${API_LIMITS.jobInputBytesMax} bytes`, {
      details: { limit: API_LIMITS.jobInputBytesMax, field: "stdin" },
    });
}

/** Hex SHA-256 that is the same for the same request; the key itself does not count. */
export function requestHash(request: JobRequest): string {
  const { argv, dir, timeoutMs, webhook } = request;
  const env = Object.entries(request.env).sort(([a], [b]) => (a < b ? -1 : 1));
  const stdin = request.stdin && createHash("sha256").update(request.stdin).digest("hex");
  return createHash("sha256").update(JSON.stringify({ argv, env, dir, stdin, timeoutMs, webhook })).digest("hex");
}

/** An id of a job and its exec session: twelve decimal digits. */
export function newJobId(): string {
  return String(randomInt(10 ** 11, 10 ** 12));
}
