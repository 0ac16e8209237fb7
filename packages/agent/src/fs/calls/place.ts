/**
 * From the path of a request to descriptors. Nothing is decided on text that the kernel could
 * decide: the parent is opened, and only its last name is used on it.
 */
import { errnoOf, fault, type Ground, naming } from "./call.ts";
import { factsOf } from "./facts.ts";
import { type At, type Fd, makeDirectory, type Name, O, openIn, readLink } from "./syscalls.ts";

const SYMLINKS_MAX = 40;
const DIRECTORY_MODE = 0o755;

/** A name in an open directory; disposing closes it. */
export interface Place extends At, Disposable {
  /** The path as text, for people. */
  path: string;
}

/** An absolute path; relative ones begin at the ground's directory. */
export function absolute(ground: Ground, path: string): string {
  if (path.startsWith("/")) return path;
  return joined(ground.directory, path);
}

export function joined(directory: string, name: Name): string {
  const text = typeof name === "string" ? name : name.toString("utf8");
  return directory.endsWith("/") ? `${directory}${text}` : `${directory}/${text}`;
}

/** Opens what `path` names, for looking at it (`O_PATH`). */
export function look(ground: Ground, path: string, options: { follow: boolean }): Fd {
  return naming(path, () => openIn(ground.rootFd, path, O.PATH | (options.follow ? 0 : O.NOFOLLOW)));
}

/** The place of the last name of `path`. Throws `EINVAL` for `/`, `.` and `..`. */
export function placeOf(ground: Ground, path: string, options: { parents?: number } = {}): Place {
  const { parent, name } = split(path);
  if (name === "" || name === "." || name === "..") throw fault("EINVAL", path, "the path ends in no name");
  const directory = naming(path, () => openDirectory(ground, parent, options.parents));
  return { directory, name, path, [Symbol.dispose]: () => directory[Symbol.dispose]() };
}

/** Where writing to `path` writes to: the end of its chain of symlinks, which need not exist. */
export function targetPlace(ground: Ground, path: string, options: { parents?: number }): Place {
  let current = path;
  for (let links = 0; links <= SYMLINKS_MAX; links += 1) {
    const place = placeOf(ground, current, options);
    const link = naming(path, () => linkAt(place));
    if (link === undefined) return { ...place, path };
    place[Symbol.dispose]();
    current = link.startsWith("/") ? link : joined(split(current).parent, link);
  }
  throw fault("ELOOP", path);
}

function linkAt(place: Place): string | undefined {
  try {
    if (factsOf(place.directory, place.name).type !== "symlink") return undefined;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
  return readLink(place.directory, place.name).toString("utf8");
}

/** Opens a directory; with `parents` (a mode), makes what is missing of it. */
export function openDirectory(ground: Ground, path: string, parents?: number): Fd {
  try {
    return openIn(ground.rootFd, path, O.PATH | O.DIRECTORY);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT" || parents === undefined) throw error;
  }
  const { parent, name } = split(path);
  if (name === "" || name === "." || name === "..") return openIn(ground.rootFd, path, O.PATH | O.DIRECTORY);
  using above = openDirectory(ground, parent, DIRECTORY_MODE);
  try {
    makeDirectory(above, name, parents);
  } catch (error) {
    // A symlink that leads nowhere is in the way, or another call was faster.
    if (errnoOf(error) !== "EEXIST") throw error;
  }
  return openIn(ground.rootFd, path, O.PATH | O.DIRECTORY);
}

/** The mode of directories that are made on the way. */
export const PARENTS = DIRECTORY_MODE;

function split(path: string): { parent: string; name: string } {
  const trimmed = path.replace(/\/+$/, "");
  const at = trimmed.lastIndexOf("/");
  return { parent: at <= 0 ? "/" : trimmed.slice(0, at), name: trimmed.slice(at + 1) };
}
