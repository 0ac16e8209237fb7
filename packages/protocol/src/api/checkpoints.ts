/** Checkpoints on the wire: save points of a sprite, made, listed, restored and deleted. */
import { z } from "zod";
import type { ErrorCode } from "../errors.ts";
import { endpoint } from "./endpoint.ts";
import { queryBoolean } from "./query.ts";

const time = z.iso.datetime().meta({ description: "RFC 3339" });

export const checkpointObject = z.object({
  id: z.string().meta({ description: "`v0`, `v1`, …; `auto-1`, … for automatic ones; `Current` stands for the present state" }),
  create_time: time,
  comment: z.string(),
  history: z.array(z.string()).meta({ description: "Ids of the checkpoints it came from, nearest first" }),
  is_auto: z.boolean(),
  source_id: z.string().meta({ description: "The checkpoint it came from; empty at the root" }),
  health: z.string().meta({ description: "Empty while healthy; `mount_failed`, `damaged`, `resume_failed`, `unchecked`" }),
  state: z
    .enum(["creating", "verifying", "complete", "failed", "current"])
    .meta({ description: "`verifying` until its check in the background has passed; ours" }),
  memory: z.boolean().meta({ description: "Whether the running processes were kept too; ours" }),
  current: z.boolean().meta({ description: "Whether the sprite's present state came from it; ours" }),
  disk_bytes: z.int().meta({ description: "Data on the disk; blocks that checkpoints share count for each; ours" }),
  memory_bytes: z.int().meta({ description: "Kept memory; ours" }),
});
export type CheckpointObject = z.infer<typeof checkpointObject>;

/** Line of a stream that makes or restores a checkpoint. The last one is `complete` or `error`. */
export const checkpointLine = z.object({
  type: z.enum(["info", "stdout", "stderr", "error", "complete"]),
  data: z.string().optional(),
  /** What went wrong, for people. */
  error: z.string().optional(),
  /** Code of the error registry. */
  code: z.string().optional(),
  time,
  /** With `complete`: the checkpoint made or restored. */
  id: z.string().optional(),
  /** With a restore's `complete`: the automatic checkpoint of the state before. */
  previous: z.string().optional(),
  /** With `complete`: whether memory was kept, or goes on. */
  memory: z.boolean().optional(),
});
export type CheckpointLine = z.infer<typeof checkpointLine>;

const OF_SPRITE = ["sprite_not_found", "token_name_prefix"] as const satisfies readonly ErrorCode[];
const OF_BODY = ["body_invalid", "field_unknown", "body_too_large"] as const satisfies readonly ErrorCode[];
const stream = { contentType: "application/x-ndjson", line: checkpointLine };

export const checkpointEndpoints = {
  createCheckpoint: endpoint({
    method: "POST",
    path: "/v1/sprites/{name}/checkpoint",
    kind: "stream",
    access: "token",
    tag: "checkpoints",
    summary: "Save the sprite's state while it runs",
    description:
      "Progress as NDJSON; the last line is `complete` with the new `id`, or `error`. When `complete` came, the checkpoint survives a power cut; it is checked in the background (`state`). `memory: true` keeps the running processes too. A client that leaves does not end the work.",
    body: z.strictObject({ comment: z.string().max(4096).optional(), memory: z.boolean().optional() }).optional(),
    status: 200,
    stream,
    errors: [...OF_SPRITE, ...OF_BODY, "busy", "disk_full", "sprite_failed"],
  }),
  listCheckpoints: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/checkpoints",
    kind: "json",
    access: "token",
    tag: "checkpoints",
    summary: "List the sprite's checkpoints, newest first, and its present state",
    description: "The last entry, `Current`, is the present state with what it came from. Automatic checkpoints only with `includeAuto`.",
    query: z.object({
      history: z.string().max(64).optional().meta({ description: "Only checkpoints that are this one or came from it" }),
      includeAuto: queryBoolean().optional(),
    }),
    status: 200,
    response: z.array(checkpointObject),
    errors: OF_SPRITE,
  }),
  getCheckpoint: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/checkpoints/{id}",
    kind: "json",
    access: "token",
    tag: "checkpoints",
    summary: "Get one checkpoint",
    status: 200,
    response: checkpointObject,
    errors: [...OF_SPRITE, "checkpoint_not_found"],
  }),
  deleteCheckpoint: endpoint({
    method: "DELETE",
    path: "/v1/sprites/{name}/checkpoints/{id}",
    kind: "json",
    access: "token",
    tag: "checkpoints",
    summary: "Delete a checkpoint that nothing needs",
    description: "The one the present state came from cannot be deleted. What came from the deleted one then comes from its parent.",
    status: 204,
    errors: [...OF_SPRITE, "checkpoint_not_found", "checkpoint_in_use", "busy"],
  }),
  restoreCheckpoint: endpoint({
    method: "POST",
    path: "/v1/sprites/{name}/checkpoints/{id}/restore",
    kind: "stream",
    access: "token",
    tag: "checkpoints",
    summary: "Put the sprite back into a checkpoint's state",
    description:
      "Ends every session. The state before becomes an automatic checkpoint first; the last line names it as `previous`. Progress as NDJSON. A restore that fails leaves the sprite as it was.",
    status: 200,
    stream,
    errors: [...OF_SPRITE, "checkpoint_not_found", "checkpoint_damaged", "busy", "disk_full"],
  }),
  undoRestore: endpoint({
    method: "POST",
    path: "/v1/sprites/{name}/restore/undo",
    kind: "stream",
    access: "token",
    tag: "checkpoints",
    summary: "Go back to the state before the last restore; ours, not part of the official API",
    description: "Restores the newest automatic checkpoint. Undoing twice goes forward again.",
    status: 200,
    stream,
    errors: [...OF_SPRITE, "checkpoint_not_found", "checkpoint_damaged", "busy", "disk_full"],
  }),
};
