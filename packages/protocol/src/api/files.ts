/**
 * Files of a sprite on the wire. Unlike everywhere else names are camelCase and errors are
 * `{error: text, code: POSIX name, path}`: official clients want it so.
 */
import { z } from "zod";
import type { ErrorCode } from "../errors.ts";
import { endpoint } from "./endpoint.ts";
import { queryBoolean, queryInteger } from "./query.ts";

const PATH = "Absolute, or relative to `workingDir`";
/** Last instant with a year of four digits, ms. */
const TIME_MS_MAX = Date.UTC(9999, 11, 31);
const DIRECTORY = "What relative paths are relative to; the home of the sprite's user when left out";
const AS_ROOT = "As root instead of the sprite's user";

const path = z.string().min(1, "is empty").max(16_384);
const directory = z.string().min(1, "is empty").max(16_384).optional();
const modeText = z
  .string()
  .regex(/^(0o)?[0-7]{1,5}$/, "must be octal, such as 0644")
  .transform((text) => Number.parseInt(text.replace("0o", ""), 8) & 0o7777);
const upload = z.string().regex(/^[A-Za-z0-9_-]{8,64}$/, "must be 8 to 64 letters and digits");
const flag = z.boolean().nullish();
const owner = z.union([z.int().min(0).max(4_294_967_294), z.string().min(1).max(64)]).nullish();

const at = {
  path: path.meta({ description: PATH }),
  workingDir: directory.meta({ description: DIRECTORY }),
  asRoot: queryBoolean().optional().meta({ description: AS_ROOT }),
};
const bodyAt = { workingDir: directory, asRoot: flag };

/** One file of a list. */
export const fileObject = z.object({
  name: z.string(),
  path: z.string(),
  type: z.enum(["file", "directory", "symlink", "fifo", "socket", "device"]),
  size: z.int(),
  mode: z.string().meta({ description: "Octal permission bits, such as `0644`" }),
  modTime: z.iso.datetime(),
  isDir: z.boolean(),
  uid: z.int(),
  gid: z.int(),
  target: z.string().optional().meta({ description: "Of a symlink" }),
});
export type FileObject = z.infer<typeof fileObject>;

const OF_FILES = [
  "sprite_not_found",
  "token_name_prefix",
  "file_not_found",
  "file_forbidden",
  "file_conflict",
  "file_invalid",
  "file_io",
  "sprite_failed",
  "sprite_deleting",
  "vm_failed_to_start",
  "vm_lost",
  "guest_unresponsive",
  "guest_protocol",
  "guest_linux_failed",
  "operation_timeout",
  "busy",
  "disk_full",
  "disk_damaged",
  "image_damaged",
] as const satisfies readonly ErrorCode[];
const OF_BODIES = ["body_invalid", "field_unknown", "body_too_large"] as const satisfies readonly ErrorCode[];

const BASE = "/v1/sprites/{name}/fs";

export const fileEndpoints = {
  readFile: endpoint({
    method: "GET",
    path: `${BASE}/read`,
    kind: "stream",
    access: "token",
    tag: "files",
    summary: "Read a file",
    description:
      "Raw bytes. `Range: bytes=…` is answered 206; `If-Match` with an earlier `ETag` is answered 412 when the file has changed. `X-File-Mode` and `X-File-Allocated` (bytes on the disk) describe the file.",
    query: z.object(at),
    status: 200,
    stream: { contentType: "application/octet-stream" },
    errors: [...OF_FILES, "file_range", "file_changed"],
  }),
  writeFile: endpoint({
    method: "PUT",
    path: `${BASE}/write`,
    kind: "stream",
    access: "token",
    tag: "files",
    summary: "Write a file: all of it or nothing",
    description:
      "The body is the content, of any size. The file appears when all has arrived; an existing one keeps owner and mode. `append` and `offset` change a file in place as bytes arrive. With `upload` (an id of the client's choice) what has arrived is kept for 10 minutes when the connection is lost; `GET …/fs/upload` says how much, and the next PUT goes on at that `offset`. `If-Match` with an `ETag` refuses to replace a file that has changed.",
    query: z.object({
      ...at,
      mode: modeText.optional().meta({ description: "Octal; 0644 for a new file when left out" }),
      mkdirParents: queryBoolean().optional().meta({ description: "Makes missing directories; default true" }),
      mkdir: queryBoolean().optional().meta({ description: "The same as `mkdirParents`" }),
      append: queryBoolean().optional(),
      offset: queryInteger({ min: 0, max: Number.MAX_SAFE_INTEGER }).optional(),
      upload: upload.optional(),
      sparse: queryBoolean().optional().meta({ description: "Blocks of zeros become holes" }),
      mtime: queryInteger({ min: 0, max: TIME_MS_MAX })
        .optional()
        .meta({ description: "Time of the last change that the file gets, `ms`; now when left out" }),
    }),
    rawBody: "application/octet-stream",
    status: 200,
    response: z.object({ path: z.string(), size: z.int(), mode: z.string(), etag: z.string() }),
    errors: [...OF_FILES, "file_no_space", "file_changed", "file_offset", "body_invalid"],
  }),
  fileUpload: endpoint({
    method: "GET",
    path: `${BASE}/upload`,
    kind: "json",
    access: "token",
    tag: "files",
    summary: "How much of an upload has arrived, running or interrupted; ours, not part of the official API",
    query: z.object({ upload }),
    status: 200,
    response: z.object({ offset: z.int() }),
    errors: OF_FILES,
  }),
  statFile: endpoint({
    method: "GET",
    path: `${BASE}/stat`,
    kind: "json",
    access: "token",
    tag: "files",
    summary: "Look at one file or directory; ours, not part of the official API",
    query: z.object({
      ...at,
      follow: queryBoolean().optional().meta({ description: "Follows a symlink; default true" }),
      digest: queryBoolean().optional().meta({ description: "Adds the SHA-256 of the content" }),
    }),
    status: 200,
    response: fileObject.extend({ allocated: z.int(), etag: z.string(), sha256: z.string().optional() }),
    errors: OF_FILES,
  }),
  listFiles: endpoint({
    method: "GET",
    path: `${BASE}/list`,
    kind: "stream",
    access: "token",
    tag: "files",
    summary: "List a directory; of a file, the file itself",
    description: "One JSON object `{path, entries, count}`, sent while the directory is read. `pattern`: `*`, `?`, `**`, `[a-z]`, `{a,b}`.",
    query: z.object({ ...at, recursive: queryBoolean().optional(), pattern: z.string().min(1).max(1024).optional() }),
    status: 200,
    stream: { contentType: "application/json" },
    errors: OF_FILES,
  }),
  deleteFile: endpoint({
    method: "DELETE",
    path: `${BASE}/delete`,
    kind: "json",
    access: "token",
    tag: "files",
    summary: "Remove a file, or a directory: an empty one, with `recursive` any",
    query: z.object({ ...at, path: at.path.optional(), recursive: queryBoolean().optional() }),
    body: z.object({ path: path.optional(), workingDir: directory, recursive: flag, asRoot: flag }).optional(),
    status: 200,
    response: z.object({ deleted: z.array(z.string()), count: z.int() }),
    errors: [...OF_FILES, ...OF_BODIES],
  }),
  renameFile: endpoint({
    method: "POST",
    path: `${BASE}/rename`,
    kind: "json",
    access: "token",
    tag: "files",
    summary: "Rename or move within a file system",
    body: z.strictObject({ source: path, dest: path, ...bodyAt }),
    status: 200,
    response: z.object({ source: z.string(), dest: z.string() }),
    errors: [...OF_FILES, ...OF_BODIES],
  }),
  copyFile: endpoint({
    method: "POST",
    path: `${BASE}/copy`,
    kind: "json",
    access: "token",
    tag: "files",
    summary: "Copy a file, or with `recursive` a directory",
    body: z.strictObject({ source: path, dest: path, recursive: flag, preserveAttrs: flag, ...bodyAt }),
    status: 200,
    response: z.object({ copied: z.array(z.object({ source: z.string(), dest: z.string() })), count: z.int(), totalBytes: z.int() }),
    errors: [...OF_FILES, ...OF_BODIES, "file_no_space"],
  }),
  chmodFile: endpoint({
    method: "POST",
    path: `${BASE}/chmod`,
    kind: "json",
    access: "token",
    tag: "files",
    summary: "Change permission bits",
    body: z.strictObject({ path, mode: modeText, recursive: flag, ...bodyAt }),
    status: 200,
    response: z.object({ affected: z.array(z.object({ path: z.string(), mode: z.string() })), count: z.int() }),
    errors: [...OF_FILES, ...OF_BODIES],
  }),
  chownFile: endpoint({
    method: "POST",
    path: `${BASE}/chown`,
    kind: "json",
    access: "token",
    tag: "files",
    summary: "Change the owner: numbers, or names of the sprite's own tables",
    body: z.strictObject({ path, uid: owner, gid: owner, recursive: flag, ...bodyAt }),
    status: 200,
    response: z.object({ affected: z.array(z.object({ path: z.string(), uid: z.int(), gid: z.int() })), count: z.int() }),
    errors: [...OF_FILES, ...OF_BODIES],
  }),
  readTree: endpoint({
    method: "GET",
    path: `${BASE}/tree`,
    kind: "stream",
    access: "token",
    tag: "files",
    summary: "Read a directory with everything in it as a tar stream; ours, not part of the official API",
    description:
      "Modes, times and symlinks are kept. What cannot be read is left out and named in a last entry `.sprite-incomplete`, a line `CODE path` each.",
    query: z.object(at),
    status: 200,
    stream: { contentType: "application/x-tar" },
    errors: OF_FILES,
  }),
  writeTree: endpoint({
    method: "PUT",
    path: `${BASE}/tree`,
    kind: "stream",
    access: "token",
    tag: "files",
    summary: "Put the content of a tar stream into a directory; ours, not part of the official API",
    description:
      "Each file appears whole. Nothing is written outside of the directory, also not through symlinks in it. Times are kept to the ms where the tar has them (`mtime` of a pax header). With `upload` (an id of the client's choice) `GET …/fs/upload` tells, while it runs, how many bytes of its files are in their places.",
    query: z.object({
      ...at,
      mkdirParents: queryBoolean().optional().meta({ description: "Makes missing directories; default true" }),
      upload: upload.optional(),
    }),
    rawBody: "application/x-tar",
    status: 200,
    response: z.object({ path: z.string(), count: z.int(), totalBytes: z.int() }),
    errors: [...OF_FILES, "file_no_space", "body_invalid"],
  }),
  watchFiles: endpoint({
    method: "GET",
    path: `${BASE}/watch`,
    kind: "websocket",
    access: "token",
    tag: "files",
    summary: "Watch files for changes over a WebSocket",
    description:
      'The first message is `{"type":"subscribe","paths":[…],"recursive":…,"workingDir":…}`, answered by `subscribed`; then come `event` messages, and `error` when events were lost.',
    query: z.object({}),
    status: 101,
    errors: [...OF_FILES, "websocket_invalid"],
  }),
};

/** First message of a client that watches. */
export const watchSubscribe = z.object({
  type: z.literal("subscribe"),
  paths: z.array(path).min(1).max(64),
  recursive: flag,
  workingDir: directory,
  asRoot: flag,
});
