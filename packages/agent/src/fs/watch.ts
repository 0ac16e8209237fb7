/**
 * Watching files (FS-14): inotify, whose descriptor raises SIGIO when events come; nothing polls.
 *
 * Invariants: watches and unread events are bounded; whoever watches is told when events were lost.
 */
import fs from "node:fs";
import type { FileFailure, FileRequestOf, FileWatchEvent } from "@sprited/protocol/guest";
import { RefusedError } from "../session/registry.ts";
import { inotifyOpen, onReadable } from "../sys/inotify.ts";
import type { CallEvents, FileWorkers, RunningCall } from "./workers.ts";

/** Watches of one call: directories, mostly. */
const WATCHES_MAX = 8_192;
/** Events read at once, bytes. */
const EVENTS_BYTES = 64 * 1024;
/** Events not yet sent; more are lost. */
const UNSENT_MAX = 4_096;
const HEADER_BYTES = 16;

const IN = {
  modify: 0x2,
  attrib: 0x4,
  movedFrom: 0x40,
  movedTo: 0x80,
  create: 0x100,
  delete: 0x200,
  deleteSelf: 0x400,
  moveSelf: 0x800,
  overflow: 0x4000,
  ignored: 0x8000,
  isDirectory: 0x40000000,
} as const;

interface Queued {
  event: FileWatchEvent;
  isReady: boolean;
}

interface Place {
  path: string;
  isDirectory: boolean;
}

/** Begins to watch; the call goes on until it is aborted. */
export function serveWatch(workers: FileWorkers, request: FileRequestOf<"watch">, events: CallEvents): RunningCall {
  const watch = new Watch(workers, request, events);
  return { data: () => {}, entry: () => {}, end: () => {}, sent: () => watch.sent(), abort: () => watch.close() };
}

class Watch {
  readonly #workers: FileWorkers;
  readonly #request: FileRequestOf<"watch">;
  readonly #events: CallEvents;
  readonly #fd: number;
  readonly #places = new Map<number, Place>();
  #queue: Queued[] = [];
  #unsent = 0;
  #isClosed = false;
  #isFull = false;
  readonly #stop: () => void;

  constructor(workers: FileWorkers, request: FileRequestOf<"watch">, events: CallEvents) {
    this.#workers = workers;
    this.#request = request;
    this.#events = events;
    this.#fd = inotifyOpen();
    this.#stop = onReadable(this.#fd, () => this.#read());
    void this.#begin();
  }

  sent(): void {
    this.#unsent = Math.max(0, this.#unsent - 1);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stop();
    fs.closeSync(this.#fd);
  }

  /** Never rejects. */
  async #begin(): Promise<void> {
    try {
      const paths = this.#request.paths.map((path) => this.#absolute(path));
      for (const path of paths) await this.#add(path);
      if (this.#isClosed) return;
      this.#events.record({ kind: "watching", paths });
      this.#read();
    } catch (error) {
      this.close();
      this.#events.failed(asFailure(error));
    }
  }

  #absolute(path: string): string {
    const directory = this.#request.dir ?? this.#workers.user.home;
    return path.startsWith("/") ? path : `${directory.replace(/\/$/, "")}/${path}`;
  }

  async #add(path: string): Promise<Place[]> {
    if (this.#isClosed) return [];
    const room = WATCHES_MAX - this.#places.size;
    const { as_root: asRoot, recursive } = this.#request;
    const { watched, isFull } = await this.#workers.watch({ path, recursive, asRoot, inotifyFd: this.#fd, room });
    for (const { watch, ...place } of watched) this.#places.set(watch, place);
    if (isFull && !this.#isFull) this.#tell(`more than ${WATCHES_MAX} directories: the rest is not watched`);
    this.#isFull ||= isFull;
    return watched;
  }

  #tell(message: string): void {
    if (!this.#isClosed) this.#events.record({ kind: "watch_error", message });
  }

  #read(): void {
    const buffer = Buffer.alloc(EVENTS_BYTES);
    while (!this.#isClosed) {
      let length: number;
      try {
        length = fs.readSync(this.#fd, buffer);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "EAGAIN") return;
        throw error;
      }
      for (let at = 0; at < length; at += HEADER_BYTES + buffer.readUInt32LE(at + 12)) {
        const nameBytes = buffer.subarray(at + HEADER_BYTES, at + HEADER_BYTES + buffer.readUInt32LE(at + 12));
        const end = nameBytes.indexOf(0);
        this.#handle(buffer.readInt32LE(at), buffer.readUInt32LE(at + 4), nameBytes.subarray(0, Math.max(0, end)).toString("utf8"));
      }
    }
  }

  #handle(watch: number, mask: number, name: string): void {
    if ((mask & IN.overflow) !== 0) return this.#tell("events were lost: too many at once");
    const place = this.#places.get(watch);
    if (!place) return;
    if ((mask & IN.ignored) !== 0) {
      this.#places.delete(watch);
      return;
    }
    const event = eventOf(mask);
    // The directory that holds it tells the same, unless nobody watches that one.
    const isSelf = name === "";
    if (!event || (isSelf && place.isDirectory && (mask & (IN.deleteSelf | IN.moveSelf)) === 0)) return;
    const path = isSelf ? place.path : `${place.path === "/" ? "" : place.path}/${name}`;
    const isDirectory = (mask & IN.isDirectory) !== 0 || (isSelf && place.isDirectory);
    this.#send({ path, event, is_dir: isDirectory });
    if (isDirectory && this.#request.recursive && (mask & (IN.create | IN.movedTo)) !== 0) void this.#enter(path);
  }

  /** A new directory; what was made in it before it was watched is told as well. Never rejects. */
  async #enter(path: string): Promise<void> {
    try {
      for (const place of await this.#add(path)) if (place.path !== path) this.#send({ path: place.path, event: "create", is_dir: true });
      this.#listNew(path);
    } catch (error) {
      const { code, message } = asFailure(error);
      if (code !== "ENOENT" && code !== "ENOTDIR") this.#tell(`not watched: ${message}`.slice(0, 1000));
    }
  }

  #listNew(path: string): void {
    const call = this.#workers.begin(
      { op: "list", as_root: this.#request.as_root, dir: "/", path, recursive: true, pattern: null },
      {
        record: (record) => {
          call.sent(16 * 1024);
          if (record.kind !== "entries") return;
          for (const entry of record.entries) {
            if (entry.type !== "directory") this.#send({ path: entry.path, event: "create", is_dir: false }, entry.size);
          }
        },
        data: () => {},
        taken: () => {},
        done: () => {},
        failed: () => {},
      },
    );
  }

  #send(event: Pick<FileWatchEvent, "path" | "event" | "is_dir">, size?: number): void {
    if (this.#isClosed) return;
    if (this.#unsent >= UNSENT_MAX) {
      if (this.#unsent === UNSENT_MAX) this.#tell("events were lost: the client does not keep up");
      this.#unsent = UNSENT_MAX + 1;
      return;
    }
    this.#unsent += 1;
    const queued: Queued = { event: { ...event, time_ms: Date.now(), size: size ?? 0 }, isReady: true };
    this.#queue.push(queued);
    if (size === undefined && !event.is_dir && event.event !== "remove" && event.event !== "rename") this.#askSize(queued);
    this.#flush();
  }

  /** Events leave in the order they came in, each when its size is known. */
  #flush(): void {
    while (!this.#isClosed && this.#queue[0]?.isReady === true) {
      const next = this.#queue.shift();
      if (next) this.#events.record({ kind: "event", event: next.event });
    }
  }

  #askSize(queued: Queued): void {
    queued.isReady = false;
    const ready = (): void => {
      queued.isReady = true;
      this.#flush();
    };
    try {
      this.#workers.begin(
        { op: "stat", as_root: this.#request.as_root, dir: "/", path: queued.event.path, follow: false, digest: false },
        {
          record: (record) => {
            if (record.kind === "file") queued.event.size = record.entry.size;
          },
          data: () => {},
          taken: () => {},
          done: ready,
          failed: ready,
        },
      );
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error;
      ready();
    }
  }
}

function eventOf(mask: number): FileWatchEvent["event"] | undefined {
  if ((mask & IN.modify) !== 0) return "write";
  if ((mask & (IN.create | IN.movedTo)) !== 0) return "create";
  if ((mask & (IN.delete | IN.deleteSelf)) !== 0) return "remove";
  if ((mask & (IN.movedFrom | IN.moveSelf)) !== 0) return "rename";
  if ((mask & IN.attrib) !== 0) return "chmod";
  return undefined;
}

function asFailure(error: unknown): FileFailure {
  if (typeof error === "object" && error !== null && "code" in error && "message" in error && "offset" in error)
    return error as FileFailure;
  const code = error instanceof RefusedError ? `AGENT_${error.code.toUpperCase()}` : "EIO";
  return { code, message: error instanceof Error ? error.message : "failed", path: null, offset: null };
}
