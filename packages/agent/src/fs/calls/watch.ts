/** Adding watches to an inotify descriptor: a path, and with `recursive` every directory below it. */
import { errnoOf, fault, type Ground, naming } from "./call.ts";
import { factsOf } from "./facts.ts";
import { look } from "./place.ts";
import type { Watched } from "./messages.ts";
import { walk } from "./read.ts";
import { addWatch, type Fd, O, openAt, reopen } from "./syscalls.ts";

/** MODIFY, ATTRIB, MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF, EXCL_UNLINK. */
const MASK = 0x2 | 0x4 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800 | 0x04000000;

/** `room`: watches that may be added. What vanishes or may not be read below the top is passed over. */
export function addWatches(
  ground: Ground,
  request: { path: string; recursive: boolean; inotifyFd: number; room: number },
): { watched: Watched[]; isFull: boolean } {
  const { path, inotifyFd, room } = request;
  const watched: Watched[] = [];
  if (room < 1) return { watched, isFull: true };
  using top = look(ground, path, { follow: true });
  const isDirectory = factsOf(top).type === "directory";
  watched.push({ watch: naming(path, () => add(inotifyFd, top, path)), path, isDirectory });
  if (!isDirectory || !request.recursive) return { watched, isFull: false };
  using open = naming(path, () => reopen(top, O.RDONLY | O.DIRECTORY));
  for (const found of walk(open, path, { recursive: true, onRefused: () => {} })) {
    if (found.facts.type !== "directory") continue;
    if (watched.length >= room) return { watched, isFull: true };
    try {
      using directory = openAt(found.directory, found.name, O.PATH | O.DIRECTORY);
      watched.push({ watch: add(inotifyFd, directory, found.path), path: found.path, isDirectory: true });
    } catch (error) {
      if (!["ENOENT", "ENOTDIR", "EACCES"].includes(errnoOf(error) ?? "")) throw error;
    }
  }
  return { watched, isFull: false };
}

function add(inotifyFd: number, fd: Fd, path: string): number {
  try {
    return addWatch(inotifyFd, fd, MASK);
  } catch (error) {
    if (errnoOf(error) === "ENOSPC") throw fault("ENOSPC", path, "the sprite has no more room for watches");
    throw error;
  }
}
