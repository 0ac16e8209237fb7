/**
 * What differs between the files of two checkpoints. Both are clones of one line of disks: a file
 * that was not touched has the same inode, size and times in both, which is what its tag says.
 */
import type { FileEntry } from "@sprited/protocol/guest";
import { ApiError } from "@sprited/protocol/errors";

export interface FileDifference {
  kind: "added" | "removed" | "changed";
  path: string;
  type: FileEntry["type"];
  sizeBefore: number | undefined;
  sizeAfter: number | undefined;
}

/** Files that are compared at most; each takes some hundred bytes of memory. */
const FILES_MAX = 2_000_000;
/** What a machine mounts over the disk: not files of the checkpoint. */
const MOUNTED: ReadonlySet<string> = new Set(["/proc", "/sys", "/dev", "/run", "/.sprite"]);

/** Lists one directory of a checkpoint, or everything below it. */
export type ListFiles = (path: string, recursive: boolean) => Promise<AsyncIterable<FileEntry[]>>;

/** Everything on the disk: what lies at the top, then what is below each directory there. */
export async function* everyFile(list: ListFiles): AsyncGenerator<FileEntry, void, void> {
  const top: FileEntry[] = [];
  for await (const batch of await list("/", false)) top.push(...batch);
  for (const entry of top) {
    if (MOUNTED.has(entry.path)) continue;
    yield entry;
    if (entry.type !== "directory") continue;
    for await (const batch of await list(entry.path, true)) yield* batch;
  }
}

/** Differences by path. Directories count when they come or go, not when their content changes. */
export async function differences(before: AsyncIterable<FileEntry>, after: AsyncIterable<FileEntry>): Promise<FileDifference[]> {
  const known = new Map<string, Pick<FileEntry, "etag" | "size" | "type" | "mode" | "uid" | "gid">>();
  for await (const { path, etag, size, type, mode, uid, gid } of before) {
    known.set(path, { etag, size, type, mode, uid, gid });
    if (known.size > FILES_MAX) throw new ApiError("busy", `more than ${FILES_MAX} files cannot be compared`);
  }
  const found: FileDifference[] = [];
  for await (const file of after) {
    const old = known.get(file.path);
    known.delete(file.path);
    const { path, type, size } = file;
    if (!old) found.push({ kind: "added", path, type, sizeBefore: undefined, sizeAfter: size });
    else if (!isSame(old, file)) found.push({ kind: "changed", path, type, sizeBefore: old.size, sizeAfter: size });
  }
  for (const [path, { type, size }] of known) found.push({ kind: "removed", path, type, sizeBefore: size, sizeAfter: undefined });
  return found.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

function isSame(old: Pick<FileEntry, "etag" | "type" | "mode" | "uid" | "gid">, now: FileEntry): boolean {
  const owned = old.type === now.type && old.mode === now.mode && old.uid === now.uid && old.gid === now.gid;
  return owned && (now.type === "directory" || old.etag === now.etag);
}
