/** Commands in sprites on the wire: starting, attaching, listing and ending sessions. */
import { z } from "zod";
import type { ErrorCode } from "../errors.ts";
import { HTTP_EXEC_CONTENT_TYPE } from "../stream/http-exec-frames.ts";
import { endpoint } from "./endpoint.ts";
import { OF_MACHINE, OF_SPRITE } from "./machine-errors.ts";
import { queryBoolean, queryDuration, queryInteger } from "./query.ts";

const size = queryInteger({ min: 0, max: 65_535 }).optional();

/** Query of every call that starts a command. */
const commandQuery = z.object({
  cmd: z.array(z.string()).optional().meta({ description: "The command, one parameter for each argument" }),
  path: z.string().optional().meta({ description: "Executable, when it is not the first `cmd`" }),
  stdin: queryBoolean().optional().meta({ description: "False connects the command to an empty input" }),
  env: z.array(z.string()).optional().meta({ description: "`NAME=value`, added to the sprite's environment" }),
  dir: z.string().optional().meta({ description: "Working directory; the user's home when left out" }),
});

/** Query of both WebSocket calls. */
const socketQuery = {
  tty: queryBoolean().optional(),
  rows: size,
  cols: size,
  detachable: queryBoolean().optional().meta({ description: "Accepted; every session can be left and attached to" }),
  cc: z.string().optional().meta({ description: "Accepted and ignored" }),
  max_run_after_disconnect: queryDuration()
    .optional()
    .meta({ description: "How long the command runs on without a client; 0: for ever. Default: for ever in a terminal, else 10s" }),
  offset: queryInteger({ min: 0, max: Number.MAX_SAFE_INTEGER }).optional().meta({
    description:
      "Ours. Log position (bytes of both streams, in order) from which the output is sent. Default: the oldest kept, of a running terminal its picture",
  }),
  screen: queryBoolean().optional().meta({ description: "Ours. False: a terminal's raw output instead of its picture" }),
  input_acks: queryBoolean().optional().meta({ description: "Ours. `input_ack` messages say up to where input is safe" }),
  ports: queryBoolean().optional().meta({
    description: "`port_opened` and `port_closed` messages for ports of the sprite. Default: in a terminal session. Ours",
  }),
  client: z.string().max(64).optional().meta({
    description:
      "Ours. A name of the client's own choice: a later connection of that name replaces this one; its input is counted by itself",
  }),
};

const offset = socketQuery.offset;

/** Query of the HTTP calls by which a client goes on after a lost connection. */
const resumableQuery = {
  input_acks: socketQuery.input_acks,
  client: socketQuery.client,
  input_offset: queryInteger({ min: 0, max: Number.MAX_SAFE_INTEGER }).optional().meta({
    description: "Ours. With `client`: of this client's input, where the body begins; what the server has of it is passed over. Default: 0",
  }),
};

const startKey = z
  .string()
  .min(1)
  .max(128)
  .regex(/^[\x21-\x7e]+$/)
  .meta({ description: "Ours. A key of the client's own choice: the same request under the same key never starts a second command" });

export const sessionObject = z.object({
  id: z.string(),
  command: z.string(),
  workdir: z.string(),
  created: z.iso.datetime(),
  bytes_per_second: z.number(),
  is_active: z.boolean(),
  last_activity: z.iso.datetime().optional(),
  tty: z.boolean(),
});
export type SessionObject = z.infer<typeof sessionObject>;

/** A session with what is known after its end; ours. */
export const sessionDetails = sessionObject.extend({
  stdout_bytes: z.int(),
  stderr_bytes: z.int(),
  log_start: z.int().meta({ description: "Log position of the oldest output byte that is kept" }),
  ended_at: z.iso.datetime().optional().meta({ description: "Left out while the command runs" }),
  exit_code: z
    .int()
    .optional()
    .meta({ description: "128 + number for a signal; left out while the command runs, or when the outcome is not known" }),
  lost: z.object({ code: z.string(), reason: z.string() }).optional().meta({ description: "Why the outcome is not known" }),
});
export type SessionDetails = z.infer<typeof sessionDetails>;

/** Line of the answer to `kill`. */
export const killLine = z.object({
  type: z.enum(["signal", "timeout", "exited", "killed", "error", "complete"]),
  message: z.string().optional(),
  signal: z.string().optional(),
  pid: z.int().optional(),
  exit_code: z.int().optional(),
});
export type KillLine = z.infer<typeof killLine>;

const OF_START = [...OF_MACHINE, "exec_no_command", "exec_invalid", "header_too_large"] as const satisfies readonly ErrorCode[];

export const execEndpoints = {
  execSocket: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/exec",
    kind: "websocket",
    access: "token",
    tag: "exec",
    summary: "Run a command over a WebSocket",
    description:
      "Wakes the sprite and starts the command before the handshake is answered. `id` or `session_id` attaches instead (older clients).",
    query: commandQuery
      .extend(socketQuery)
      .extend({ id: z.string().optional(), session_id: z.string().optional(), start_key: startKey.optional() }),
    status: 101,
    errors: [...OF_START, "session_not_found", "idempotency_key_reused", "websocket_invalid"],
  }),
  startSocket: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/exec/start",
    kind: "websocket",
    access: "token",
    tag: "exec",
    summary: "Run a command under a key, or go back to what the key started; ours",
    description:
      "As the call without `/start`, for a request that is repeated because its answer never came: servers that know no keys refuse it and start nothing.",
    query: commandQuery.extend(socketQuery).extend({ start_key: startKey }),
    status: 101,
    errors: [...OF_START, "idempotency_key_reused", "websocket_invalid"],
  }),
  attachSocket: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/exec/{session_id}",
    kind: "websocket",
    access: "token",
    tag: "exec",
    summary: "Attach to a session over a WebSocket",
    description: "`session_info`, the output kept so far, then live output.",
    query: z.object({ stdin: queryBoolean().optional(), ...socketQuery }),
    status: 101,
    errors: [...OF_SPRITE, "session_not_found", "websocket_invalid"],
  }),
  execHttp: endpoint({
    method: "POST",
    path: "/v1/sprites/{name}/exec",
    kind: "stream",
    access: "token",
    tag: "exec",
    summary: "Run a command over plain HTTP; the request body is its input",
    description:
      "Each chunk of the answer is one frame: `0x01` + stdout, `0x02` + stderr, last `0x03` + one byte of exit code. Frames have no length, so they are spaced in time; prefer the WebSocket.",
    query: commandQuery.extend({
      ...resumableQuery,
      max_run_after_disconnect: socketQuery.max_run_after_disconnect,
      start_key: startKey.optional(),
    }),
    rawBody: "application/octet-stream",
    status: 200,
    stream: { contentType: "application/octet-stream" },
    errors: [...OF_START, "idempotency_key_reused"],
  }),
  startHttp: endpoint({
    method: "POST",
    path: "/v1/sprites/{name}/exec/start",
    kind: "stream",
    access: "token",
    tag: "exec",
    summary: "Run a command under a key over plain HTTP, or go back to what the key started; ours",
    description:
      "As the call without `/start`, always with frames that have a length, for a request that is repeated because its answer never came.",
    query: commandQuery.extend({
      ...resumableQuery,
      max_run_after_disconnect: socketQuery.max_run_after_disconnect,
      start_key: startKey,
    }),
    rawBody: "application/octet-stream",
    status: 200,
    stream: { contentType: HTTP_EXEC_CONTENT_TYPE },
    errors: [...OF_START, "idempotency_key_reused"],
  }),
  attachHttp: endpoint({
    method: "POST",
    path: "/v1/sprites/{name}/exec/{session_id}",
    kind: "stream",
    access: "token",
    tag: "exec",
    summary: "Attach to a session over plain HTTP; the request body is input. Ours",
    description: "`session_info`, the output kept so far or from `offset`, then live output, in frames that have a length.",
    query: z.object({ stdin: queryBoolean().optional(), offset, ...resumableQuery }),
    rawBody: "application/octet-stream",
    status: 200,
    stream: { contentType: HTTP_EXEC_CONTENT_TYPE },
    errors: [...OF_SPRITE, "session_not_found", "exec_invalid"],
  }),
  listSessions: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/exec",
    kind: "json",
    access: "token",
    tag: "exec",
    summary: "List the running sessions of a sprite",
    query: z.object({ ended: queryBoolean().optional().meta({ description: "Ours. True adds the ended sessions that are kept" }) }),
    status: 200,
    response: z.object({ sessions: z.array(sessionDetails), count: z.int() }),
    errors: OF_SPRITE,
  }),
  getSession: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/exec/{session_id}",
    kind: "json",
    access: "token",
    tag: "exec",
    summary: "Look at one session; ours, not part of the official API",
    status: 200,
    response: sessionDetails,
    errors: [...OF_SPRITE, "session_not_found"],
  }),
  readSessionLog: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/exec/{session_id}/log",
    kind: "stream",
    access: "token",
    tag: "exec",
    summary: "Read a session's output as raw bytes; ours",
    description:
      "`offset` counts the bytes of the stream asked for (`all`: of both together, in the order they came). `X-Log-Offset` is the offset of the first byte of the answer; it is greater than `offset` when older output is no longer kept. With `follow` the answer goes on until the session has ended; it is cut off, not ended, where bytes are missing.",
    query: z.object({
      stream: z.enum(["stdout", "stderr", "all"]).optional(),
      offset: queryInteger({ min: 0, max: Number.MAX_SAFE_INTEGER }).optional(),
      follow: queryBoolean().optional(),
    }),
    status: 200,
    stream: { contentType: "application/octet-stream" },
    errors: [...OF_SPRITE, "session_not_found"],
  }),
  killSession: endpoint({
    method: "POST",
    path: "/v1/sprites/{name}/exec/{session_id}/kill",
    kind: "stream",
    access: "token",
    tag: "exec",
    summary: "Signal a session's command and wait for its end",
    description:
      "When it has not ended after `timeout`, it gets KILL. `timeout=0s` only signals. Parameters may also be sent as a JSON body.",
    query: z.object({ signal: z.string().max(16).optional(), timeout: queryDuration().optional() }),
    body: z
      .strictObject({ signal: z.string().max(16).optional(), timeout: z.union([z.number().min(0), z.string()]).optional() })
      .optional(),
    status: 200,
    stream: { contentType: "application/x-ndjson", line: killLine },
    errors: [...OF_SPRITE, "session_not_found", "session_ended", "exec_invalid", "body_invalid", "field_unknown", "body_too_large"],
  }),
};
