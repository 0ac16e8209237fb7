/** Commands in sprites on the wire: starting, attaching, listing and ending sessions. */
import { z } from "zod";
import type { ErrorCode } from "../errors.ts";
import { endpoint } from "./endpoint.ts";
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
};

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

/** Line of the answer to `kill`. */
export const killLine = z.object({
  type: z.enum(["signal", "timeout", "exited", "killed", "error", "complete"]),
  message: z.string().optional(),
  signal: z.string().optional(),
  pid: z.int().optional(),
  exit_code: z.int().optional(),
});
export type KillLine = z.infer<typeof killLine>;

const OF_SPRITE = ["sprite_not_found", "token_name_prefix"] as const satisfies readonly ErrorCode[];
const OF_START = [
  ...OF_SPRITE,
  "exec_no_command",
  "exec_invalid",
  "header_too_large",
  "sprite_failed",
  "sprite_deleting",
  "vm_failed_to_start",
  "vm_lost",
  "guest_unresponsive",
  "guest_protocol",
  "guest_refused_start",
  "guest_failed",
  "guest_linux_failed",
  "operation_timeout",
  "busy",
  "disk_full",
  "disk_damaged",
  "image_damaged",
] as const satisfies readonly ErrorCode[];

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
    query: commandQuery.extend(socketQuery).extend({ id: z.string().optional(), session_id: z.string().optional() }),
    status: 101,
    errors: [...OF_START, "session_not_found", "websocket_invalid"],
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
    query: commandQuery,
    rawBody: "application/octet-stream",
    status: 200,
    stream: { contentType: "application/octet-stream" },
    errors: OF_START,
  }),
  listSessions: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/exec",
    kind: "json",
    access: "token",
    tag: "exec",
    summary: "List the running sessions of a sprite",
    status: 200,
    response: z.object({ sessions: z.array(sessionObject), count: z.int() }),
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
    response: sessionObject.extend({ exit_code: z.int().optional().meta({ description: "Left out while the command runs" }) }),
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
