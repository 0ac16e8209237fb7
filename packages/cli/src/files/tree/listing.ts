/** Directories of a sprite, one call each: what is in them, as far as it is needed to compare. */
import { ConnectionError } from "@sprited/protocol/client/errors";
import { callApi } from "../../api/http.ts";
import { isObject } from "../../settings/files.ts";
import { callPath, type Remote } from "../remote.ts";

const LIST_TIMEOUT_MS = 600_000;
/** Calls at once: most of their time is the way. */
const CALLS_AT_ONCE = 8;

/** Something in a directory of the sprite. */
export interface RemoteEntry {
  name: string;
  type: string;
  /** Bytes. */
  size: number;
  /** Permission bits. */
  mode: number;
  mtimeMs: number;
  /** Of a symlink. */
  target: string | undefined;
}

/** What is in a directory. Throws `ApiError`, `ConnectionError`; a name that is none is a `bad_answer`. */
export async function listRemote(remote: Remote, path: string): Promise<RemoteEntry[]> {
  const answer = await callApi(remote.address, { method: "GET", path: callPath(remote, "list", { path }), timeoutMs: LIST_TIMEOUT_MS });
  const entries = isObject(answer) && Array.isArray(answer["entries"]) ? answer["entries"].filter(isObject) : [];
  return entries.map((entry) => {
    const name = String(entry["name"]);
    if (name === "" || name === "." || name === ".." || /[/\0]/.test(name))
      throw new ConnectionError("bad_answer", "the answer has a name that no file has");
    return {
      name,
      type: String(entry["type"]),
      size: Number(entry["size"]),
      mode: Number.parseInt(String(entry["mode"]), 8) & 0o7777,
      mtimeMs: Date.parse(String(entry["modTime"])),
      target: typeof entry["target"] === "string" ? entry["target"] : undefined,
    };
  });
}

/** Whether a file of the sprite is that of this computer: the same size, mode and time of the last change, in ms. */
export function isSame(here: { size: number; mode: number; mtimeMs: number }, there: RemoteEntry): boolean {
  const isAlike = there.type === "file" && here.size === there.size && (here.mode & 0o777) === (there.mode & 0o777);
  return isAlike && Math.floor(here.mtimeMs) === there.mtimeMs;
}

/** Works on everything in `queue`, also on what `work` adds to it, some at once. The first failure ends it. */
export async function eachAtOnce<T>(queue: T[], work: (item: T) => Promise<void>): Promise<void> {
  const failures: unknown[] = [];
  const running = new Set<Promise<void>>();
  while ((queue.length > 0 || running.size > 0) && failures.length === 0) {
    const item = running.size < CALLS_AT_ONCE ? queue.shift() : undefined;
    if (item === undefined) {
      await Promise.race(running);
      continue;
    }
    const one: Promise<void> = work(item).then(
      () => void running.delete(one),
      (error: unknown) => {
        running.delete(one);
        failures.push(error);
      },
    );
    running.add(one);
  }
  await Promise.all(running);
  if (failures.length > 0) throw failures[0];
}
