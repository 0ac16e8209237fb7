/** Handlers of files: names of the wire in, one call of the feature, names of the wire out. */
import { ignore } from "@sprited/base";
import type { FileObject } from "@sprited/protocol/api";
import { ApiError } from "@sprited/protocol/errors";
import type { FileEntry } from "@sprited/protocol/guest";
import type { Bytes, FileContent, FileScope } from "../../files/index.ts";
import { tarOf, treeOf } from "../../files/index.ts";
import type { Caller } from "../../organization/index.ts";
import type { HandlerTable } from "../handler.ts";
import { streamReply } from "../stream-reply.ts";
import { askedRange, type PartOf } from "./file-range.ts";

type FileHandlers = Pick<
  HandlerTable,
  | "readFile"
  | "writeFile"
  | "fileUpload"
  | "statFile"
  | "listFiles"
  | "deleteFile"
  | "renameFile"
  | "copyFile"
  | "chmodFile"
  | "chownFile"
  | "readTree"
  | "writeTree"
>;

export const fileHandlers: FileHandlers = {
  async readFile({ params, query, caller, context, request, signal }) {
    const asked = askedRange(request.headers.get("range"));
    const content = await context.features.files.read(scopeOf(caller, params, signal), {
      ...placeOf(query),
      offset: asked?.offset ?? 0,
      length: asked?.length ?? null,
      if_match: etagOf(request.headers.get("if-match")),
    });
    return contentReply(content, asked, request.method === "HEAD");
  },

  async writeFile({ params, query, caller, context, request, signal }) {
    if (query.append === true && (query.offset !== undefined || query.upload !== undefined))
      throw new ApiError("query_invalid", "append excludes offset and upload", { details: { field: "append" } });
    const isInPlace = query.offset !== undefined && query.upload === undefined;
    const written = await context.features.files.write(
      scopeOf(caller, params, signal),
      {
        ...placeOf(query),
        mode: query.mode ?? null,
        parents: query.mkdirParents ?? query.mkdir ?? true,
        if_match: etagOf(request.headers.get("if-match")),
        how: query.append === true ? "append" : isInPlace ? "offset" : "replace",
        offset: query.offset ?? 0,
        upload: query.upload ?? null,
        sparse: query.sparse ?? false,
        mtime_ms: query.mtime ?? null,
      },
      bodyOf(request),
    );
    return { path: written.path, size: written.size, mode: octal(written.mode), etag: written.etag };
  },

  async fileUpload({ params, query, caller, context, signal }) {
    return { offset: await context.features.files.uploaded(scopeOf(caller, params, signal), query.upload) };
  },

  async statFile({ params, query, caller, context, signal }) {
    const request = { ...placeOf(query), follow: query.follow ?? true, digest: query.digest ?? false };
    const { entry, digest } = await context.features.files.stat(scopeOf(caller, params, signal), request);
    return { ...fileView(entry), allocated: entry.allocated, etag: entry.etag, ...(digest === null ? {} : { sha256: digest }) };
  },

  async listFiles({ params, query, caller, context, signal }) {
    const request = { ...placeOf(query), recursive: query.recursive ?? false, pattern: query.pattern ?? null };
    const batches = await context.features.files.list(scopeOf(caller, params, signal), request);
    return streamReply({ contentType: "application/json", pieces: () => listText(query.path, batches) });
  },

  async deleteFile({ params, query, body, caller, context, signal }) {
    const path = query.path ?? body?.path;
    if (path === undefined) throw new ApiError("query_invalid", "path is required", { details: { field: "path" } });
    const done = await context.features.files.change(scopeOf(caller, params, signal), {
      op: "remove",
      path,
      dir: query.workingDir ?? body?.workingDir ?? null,
      as_root: query.asRoot ?? body?.asRoot ?? false,
      recursive: query.recursive ?? body?.recursive ?? false,
    });
    return { deleted: done.changes.map((change) => change.path), count: done.count };
  },

  async renameFile({ params, body, caller, context, signal }) {
    const { source, dest } = body;
    await context.features.files.change(scopeOf(caller, params, signal), { op: "rename", ...whereOf(body), source, dest });
    return { source, dest };
  },

  async copyFile({ params, body, caller, context, signal }) {
    const done = await context.features.files.change(scopeOf(caller, params, signal), {
      op: "copy",
      ...whereOf(body),
      source: body.source,
      dest: body.dest,
      recursive: body.recursive ?? false,
      preserve: body.preserveAttrs ?? false,
    });
    return {
      copied: done.changes.map(({ path, dest }) => ({ source: path, dest: dest ?? "" })),
      count: done.count,
      totalBytes: done.bytes,
    };
  },

  async chmodFile({ params, body, caller, context, signal }) {
    const { path, mode, recursive } = body;
    const request = { op: "chmod", ...whereOf(body), path, mode, recursive: recursive ?? false } as const;
    const done = await context.features.files.change(scopeOf(caller, params, signal), request);
    return { affected: done.changes.map((change) => ({ path: change.path, mode: octal(change.mode ?? mode) })), count: done.count };
  },

  async chownFile({ params, body, caller, context, signal }) {
    const { path, uid = null, gid = null, recursive } = body;
    if (uid === null && gid === null) throw new ApiError("body_invalid", "uid or gid is required", { details: { field: "uid" } });
    const request = { op: "chown", ...whereOf(body), path, uid, gid, recursive: recursive ?? false } as const;
    const done = await context.features.files.change(scopeOf(caller, params, signal), request);
    return {
      affected: done.changes.map((change) => ({ path: change.path, uid: change.uid ?? 0, gid: change.gid ?? 0 })),
      count: done.count,
    };
  },

  async readTree({ params, query, caller, context, signal }) {
    const items = await context.features.files.readTree(scopeOf(caller, params, signal), placeOf(query));
    return streamReply({ contentType: "application/x-tar", pieces: () => piecesOf(tarOf(items)) });
  },

  async writeTree({ params, query, caller, context, request, signal }) {
    const place = { ...placeOf(query), parents: query.mkdirParents ?? true, upload: query.upload ?? null };
    const done = await context.features.files.writeTree(scopeOf(caller, params, signal), place, treeOf(bodyOf(request)));
    return { path: query.path, count: done.count, totalBytes: done.bytes };
  },
};

function scopeOf(caller: Caller, params: { name: string }, signal: AbortSignal): FileScope {
  return { organizationId: caller.organizationId, spriteName: params.name, signal };
}

function placeOf(query: { path: string; workingDir?: string | undefined; asRoot?: boolean | undefined }): {
  path: string;
  dir: string | null;
  as_root: boolean;
} {
  return { path: query.path, dir: query.workingDir ?? null, as_root: query.asRoot ?? false };
}

function whereOf(body: { workingDir?: string | undefined; asRoot?: boolean | null | undefined }): { dir: string | null; as_root: boolean } {
  return { dir: body.workingDir ?? null, as_root: body.asRoot ?? false };
}

/** The request's bytes as they come. A client that leaves is an error: half a body is none. */
async function* bodyOf(request: Request): AsyncGenerator<Uint8Array, void, void> {
  const reader = request.body?.getReader();
  if (!reader) return;
  try {
    for (;;) {
      const step = await reader.read().catch((cause: unknown) => {
        throw new ApiError("body_invalid", "the body ended before it was complete", { cause });
      });
      if (step.done) return;
      yield step.value as Uint8Array;
    }
  } finally {
    reader.cancel().catch(ignore("the client is told by the answer"));
  }
}

function contentReply(content: FileContent, asked: PartOf | undefined, isHead: boolean): Response {
  const { entry, from, length } = content;
  if (asked && length !== undefined && length === 0 && asked.length !== 0) {
    content.close();
    throw new ApiError("file_range", `the file has ${entry.size} bytes`, {
      details: { code: "EINVAL", path: entry.path, size: entry.size },
    });
  }
  const reply = streamReply({
    contentType: "application/octet-stream",
    pieces: () => piecesOf(content.bytes),
    onEnd: () => content.close(),
  });
  if (isHead) content.close();
  if (length !== undefined) {
    reply.headers.delete("transfer-encoding");
    reply.headers.set("content-length", String(length));
  }
  reply.headers.set("accept-ranges", "bytes");
  reply.headers.set("etag", `"${entry.etag}"`);
  reply.headers.set("last-modified", new Date(entry.mtime_ms).toUTCString());
  reply.headers.set("x-file-mode", octal(entry.mode));
  reply.headers.set("x-file-mtime", String(entry.mtime_ms));
  reply.headers.set("x-file-allocated", String(entry.allocated));
  if (isHead) return new Response(null, { headers: reply.headers });
  if (!asked || length === undefined) return reply;
  reply.headers.set("content-range", `bytes ${from}-${from + length - 1}/${entry.size}`);
  return new Response(reply.body, { status: 206, headers: reply.headers });
}

/** Frames are views that the next one overwrites: what goes into a stream's queue is copied. */
async function* piecesOf(bytes: Bytes): AsyncGenerator<Uint8Array, void, void> {
  for await (const piece of bytes) yield Uint8Array.from(piece);
}

async function* listText(path: string, batches: AsyncIterable<FileEntry[]>): AsyncGenerator<Uint8Array, void, void> {
  let count = 0;
  yield Buffer.from(`{"path":${JSON.stringify(path)},"entries":[`);
  for await (const entries of batches) {
    if (entries.length === 0) continue;
    const text = entries.map((entry) => JSON.stringify(fileView(entry))).join(",");
    yield Buffer.from(count === 0 ? text : `,${text}`);
    count += entries.length;
  }
  yield Buffer.from(`],"count":${count}}\n`);
}

function fileView(entry: FileEntry): FileObject {
  return {
    name: entry.path.replace(/\/+$/, "").slice(entry.path.replace(/\/+$/, "").lastIndexOf("/") + 1) || "/",
    path: entry.path,
    type: entry.type,
    size: entry.size,
    mode: octal(entry.mode),
    modTime: new Date(Math.min(entry.mtime_ms, TIME_MS_MAX)).toISOString(),
    isDir: entry.type === "directory",
    uid: entry.uid,
    gid: entry.gid,
    ...(entry.target === null ? {} : { target: entry.target }),
  };
}

/** Last instant whose RFC 3339 form has a year of four digits, ms. */
const TIME_MS_MAX = Date.UTC(9999, 11, 31);

function octal(mode: number): string {
  return mode.toString(8).padStart(4, "0");
}

function etagOf(header: string | null): string | null {
  return header === null || header === "*" ? null : header.replace(/^W\//, "").replaceAll('"', "").slice(0, 128);
}
