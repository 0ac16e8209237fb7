/** Checkpoints on the wire: save points of a sprite, made, listed, restored and deleted. */
import { z } from "zod";
import type { ErrorCode } from "../errors.ts";
import { endpoint } from "./endpoint.ts";
import { fileEndpoints } from "./files.ts";
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

/** Line of a comparison. The last one is `complete` or `error`. */
export const checkpointDiffLine = z.object({
  type: z.enum(["added", "removed", "changed", "error", "complete"]),
  path: z.string().optional(),
  /** What it is in the later one; in the earlier one when it was removed. */
  file: z.enum(["file", "directory", "symlink", "fifo", "socket", "device"]).optional(),
  /** Bytes in the earlier and in the later one. */
  size_before: z.int().optional(),
  size_after: z.int().optional(),
  error: z.string().optional(),
  code: z.string().optional(),
  /** With `complete`: how many of each there are. */
  added: z.int().optional(),
  removed: z.int().optional(),
  changed: z.int().optional(),
});
export type CheckpointDiffLine = z.infer<typeof checkpointDiffLine>;

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
  listCheckpointFiles: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/checkpoints/{id}/fs/list",
    kind: "stream",
    access: "token",
    tag: "checkpoints",
    summary: "List files in a checkpoint; ours, not part of the official API",
    description: "As `GET …/fs/list`, of the checkpoint's disk. A throwaway machine over a clone answers; the sprite is not touched.",
    query: fileEndpoints.listFiles.query,
    status: 200,
    stream: { contentType: "application/json" },
    errors: [...fileEndpoints.listFiles.errors, "checkpoint_not_found"],
  }),
  statCheckpointFile: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/checkpoints/{id}/fs/stat",
    kind: "json",
    access: "token",
    tag: "checkpoints",
    summary: "What a file in a checkpoint is; ours, not part of the official API",
    query: fileEndpoints.statFile.query,
    status: 200,
    response: fileEndpoints.statFile.response,
    errors: [...fileEndpoints.statFile.errors, "checkpoint_not_found"],
  }),
  readCheckpointFile: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/checkpoints/{id}/fs/read",
    kind: "stream",
    access: "token",
    tag: "checkpoints",
    summary: "Read a file in a checkpoint; ours, not part of the official API",
    query: fileEndpoints.readFile.query,
    status: 200,
    stream: { contentType: "application/octet-stream" },
    errors: [...fileEndpoints.readFile.errors, "checkpoint_not_found"],
  }),
  readCheckpointTree: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/checkpoints/{id}/fs/tree",
    kind: "stream",
    access: "token",
    tag: "checkpoints",
    summary: "Read a directory in a checkpoint as tar; ours, not part of the official API",
    query: fileEndpoints.readTree.query,
    status: 200,
    stream: { contentType: "application/x-tar" },
    errors: [...fileEndpoints.readTree.errors, "checkpoint_not_found"],
  }),
  diffCheckpoints: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/checkpoints/{id}/diff",
    kind: "stream",
    access: "token",
    tag: "checkpoints",
    summary: "Compare the files of two checkpoints; ours, not part of the official API",
    description:
      "A line for each file that `to` has and this one has not (`added`), the other way round (`removed`), or that is another (`changed`), by path; then `complete` with their numbers.",
    query: z.object({ to: z.string().min(1).max(64).meta({ description: "The later checkpoint" }) }),
    status: 200,
    stream: { contentType: "application/x-ndjson", line: checkpointDiffLine },
    errors: [...fileEndpoints.listFiles.errors, "checkpoint_not_found"],
  }),
};
