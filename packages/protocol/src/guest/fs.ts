/**
 * File calls on the link (FS-n in docs/spec/files.md, FILE-n in docs/spec/guest-protocol.md): the
 * first frame of a stream is a request, then records and bytes in both directions.
 */
import { z } from "zod";

/** Limits of file calls. */
export const FILE_LIMITS = {
  /** Longest path, bytes; Linux takes no longer ones. */
  pathBytesMax: 4095,
  /** Entries of one record. */
  entriesPerRecord: 256,
  /** Bytes of one data frame. */
  dataBytesMax: 128 * 1024,
  /** Paths of one watch. */
  watchPathsMax: 64,
  /** Entries named in the answer of a call that changes many; the rest is counted. */
  namedMax: 10_000,
} as const;

const pathText = z
  .string()
  .min(1)
  .refine((text) => !text.includes("\0"), "must not contain a zero byte")
  .refine((text) => new TextEncoder().encode(text).length <= FILE_LIMITS.pathBytesMax, "is too long");
const answeredPath = z.string().max(2 * FILE_LIMITS.pathBytesMax);
const mode = z.int().min(0).max(0o7777);
const size = z.int().min(0);
const owner = z.union([z.int().min(0).max(0xfffffffe), z.string().min(1).max(64)]);

/** Who works where: `dir` is what relative paths are relative to; the user's home when null. */
const common = { as_root: z.boolean(), dir: pathText.nullable() };

export const fileRequest = z.discriminatedUnion("op", [
  z.object({ op: z.literal("stat"), ...common, path: pathText, follow: z.boolean(), digest: z.boolean() }),
  z.object({ op: z.literal("list"), ...common, path: pathText, recursive: z.boolean(), pattern: z.string().max(1024).nullable() }),
  z.object({
    op: z.literal("read"),
    ...common,
    path: pathText,
    /** Negative: so many bytes before the end. */
    offset: z.int(),
    /** Null: up to the end. */
    length: size.nullable(),
    /** The etag the file must still have. */
    if_match: z.string().max(128).nullable(),
  }),
  z.object({
    op: z.literal("write"),
    ...common,
    path: pathText,
    mode: mode.nullable(),
    parents: z.boolean(),
    if_match: z.string().max(128).nullable(),
    /** `replace`: all at once or not at all; the others change the file in place as bytes come. */
    how: z.enum(["replace", "append", "offset"]),
    /** Where the bytes go: in the file, or in the upload. */
    offset: size,
    /** An upload that survives a lost connection: its id. */
    upload: z.string().max(64).nullable(),
    /** Blocks of zeros become holes. */
    sparse: z.boolean(),
    /** Time of the last change that the file gets when it is replaced, ms; null: now. */
    mtime_ms: z.int().nullable().default(null),
  }),
  z.object({ op: z.literal("upload"), ...common, upload: z.string().max(64) }),
  z.object({ op: z.literal("remove"), ...common, path: pathText, recursive: z.boolean() }),
  z.object({ op: z.literal("rename"), ...common, source: pathText, dest: pathText }),
  z.object({ op: z.literal("copy"), ...common, source: pathText, dest: pathText, recursive: z.boolean(), preserve: z.boolean() }),
  z.object({ op: z.literal("chmod"), ...common, path: pathText, mode, recursive: z.boolean() }),
  z.object({
    op: z.literal("chown"),
    ...common,
    path: pathText,
    uid: owner.nullable(),
    gid: owner.nullable(),
    recursive: z.boolean(),
  }),
  z.object({ op: z.literal("tree_read"), ...common, path: pathText }),
  z.object({
    op: z.literal("tree_write"),
    ...common,
    path: pathText,
    parents: z.boolean(),
    /** The id under which others ask how many bytes of its files are in their places. */
    upload: z.string().max(64).nullable().default(null),
  }),
  z.object({ op: z.literal("watch"), ...common, paths: z.array(pathText).min(1).max(FILE_LIMITS.watchPathsMax), recursive: z.boolean() }),
]);
export type FileRequest = z.infer<typeof fileRequest>;
export type FileRequestOf<Op extends FileRequest["op"]> = Extract<FileRequest, { op: Op }>;

export const fileType = z.enum(["file", "directory", "symlink", "fifo", "socket", "device"]);

/** One file as the agent sees it. */
export const fileEntry = z.object({
  /** Absolute in lists, relative to the tree in trees. */
  path: answeredPath,
  type: fileType,
  size,
  /** Permission bits with setuid, setgid and sticky. */
  mode,
  /** Last change of the content, ms since the epoch. */
  mtime_ms: z.int(),
  uid: z.int().min(0),
  gid: z.int().min(0),
  /** Bytes on the disk; less than `size` where there are holes. */
  allocated: size,
  /** Changes whenever the file does. */
  etag: z.string().max(128),
  /** Of a symlink. */
  target: z
    .string()
    .max(2 * FILE_LIMITS.pathBytesMax)
    .nullable(),
});
export type FileEntry = z.infer<typeof fileEntry>;

/** What the host sends for each entry of a tree; the bytes of a file follow. */
export const treeEntry = z.object({
  path: pathText,
  type: z.enum(["file", "directory", "symlink", "link"]),
  size,
  mode,
  mtime_ms: z.int(),
  /** Of a symlink, or the earlier path of the tree that a `link` names again. */
  target: z.string().max(FILE_LIMITS.pathBytesMax).nullable(),
});
export type TreeEntry = z.infer<typeof treeEntry>;

/** One thing that a call did: removed, copied, changed. */
export const fileChange = z.object({
  path: answeredPath,
  dest: answeredPath.optional(),
  mode: mode.optional(),
  uid: z.int().optional(),
  gid: z.int().optional(),
});
export type FileChange = z.infer<typeof fileChange>;

export const fileWatchEvent = z.object({
  path: answeredPath,
  event: z.enum(["write", "create", "remove", "rename", "chmod"]),
  time_ms: z.int(),
  size,
  is_dir: z.boolean(),
});
export type FileWatchEvent = z.infer<typeof fileWatchEvent>;

/** Records of the agent, by what they tell. */
export const fileRecord = z.discriminatedUnion("kind", [
  /** stat, and the head of a read: `from` and `length` are what follows as bytes. */
  z.object({ kind: z.literal("file"), entry: fileEntry, from: size, length: size, digest: z.string().max(64).nullable() }),
  z.object({ kind: z.literal("entries"), entries: z.array(fileEntry).max(FILE_LIMITS.entriesPerRecord) }),
  /** An entry of a tree; `size` bytes follow when it is a file. */
  z.object({ kind: z.literal("tree"), entry: fileEntry }),
  /** Something of a tree that is not in it, and why. */
  z.object({ kind: z.literal("skipped"), path: answeredPath, code: z.string().max(32) }),
  z.object({ kind: z.literal("written"), path: answeredPath, size, mode, etag: z.string().max(128) }),
  /** Bytes of an upload that have arrived, also of one that is still running. */
  z.object({ kind: z.literal("upload"), offset: size }),
  z.object({ kind: z.literal("changes"), changes: z.array(fileChange).max(FILE_LIMITS.entriesPerRecord) }),
  z.object({ kind: z.literal("total"), count: size, bytes: size }),
  z.object({ kind: z.literal("watching"), paths: z.array(answeredPath) }),
  z.object({ kind: z.literal("event"), event: fileWatchEvent }),
  /** Events were lost, or a directory is not watched. */
  z.object({ kind: z.literal("watch_error"), message: z.string().max(1000) }),
]);
export type FileRecord = z.infer<typeof fileRecord>;

/** Why a file call failed: an errno's name; `EBUSY_AGENT` when the agent has no room for it. */
export const fileFailure = z.object({
  code: z.string().regex(/^[A-Z0-9_]{1,32}$/),
  message: z.string().max(4096),
  path: z
    .string()
    .max(2 * FILE_LIMITS.pathBytesMax)
    .nullable(),
  /** Of a write at the wrong place: where to go on. */
  offset: size.nullable(),
});
export type FileFailure = z.infer<typeof fileFailure>;
