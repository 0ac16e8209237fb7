/**
 * The file workers and the calls in them. One is there from the start; others only while one is
 * stuck in a file system that hangs.
 */
import { Worker } from "node:worker_threads";
import { ignore, withDeadline } from "@sprited/base";
import type { FileFailure, FileRecord, FileRequest, TreeEntry } from "@sprited/protocol/guest";
import { RefusedError } from "../session/registry.ts";
import type { User } from "../spawn/user.ts";
import type { FileRoot, Root } from "./root.ts";
import type { FromWorker, ToWorker, Watched } from "./calls/messages.ts";

const WORKERS_MAX = 4;
/** A worker inside one step for longer than this gets no more calls, ms. */
const STUCK_MS = 1_000;
/** How long an ended environment's calls may take to let go, ms. */
const CLEAR_TIMEOUT_MS = 2_000;
/** Calls at once. */
const CALLS_MAX = 256;

/** The source of the worker beside this one; in the bundle it is built as a file of its own. */
const WORKER = new URL(import.meta.url.endsWith(".ts") ? "./file-worker.ts" : "./file-worker.mjs", import.meta.url);

/** Who listens to a call. Exactly one of `done` and `failed` comes, last. */
export interface CallEvents {
  record(record: FileRecord): void;
  data(bytes: Uint8Array): void;
  /** The worker took that much of the input. */
  taken(bytes: number): void;
  done(): void;
  failed(failure: FileFailure): void;
}

/** A call as its caller drives it. */
export interface RunningCall {
  /** Takes over the buffer. */
  data(bytes: Uint8Array<ArrayBuffer>): void;
  entry(entry: TreeEntry): void;
  end(): void;
  /** Output that has left: more may come. */
  sent(bytes: number): void;
  abort(): void;
}

interface Handle {
  worker: Worker;
  busySince: Int32Array;
  calls: Set<number>;
}

interface Pending {
  handle: Handle;
  root: Root | undefined;
  events: Partial<CallEvents> & { watched?(watched: Watched[], isFull: boolean): void; cleared?(): void };
}

export class FileWorkers {
  readonly #root: FileRoot;
  readonly #user: () => User;
  #handles: Handle[] = [];
  readonly #pending = new Map<number, Pending>();
  /** Which worker keeps an upload. */
  readonly #uploads = new Map<string, Handle>();
  #lastId = 0;

  constructor(root: FileRoot, user: () => User) {
    this.#root = root;
    this.#user = user;
    root.onLeave(() => this.#clear());
  }

  /** Starts the first worker, so that no call waits for it. */
  async warm(): Promise<void> {
    const handle = this.#handles[0] ?? this.#start();
    await this.#clearOne(handle);
  }

  /** Begins a call. Throws `RefusedError` when there is no room, or no Linux to work in. */
  begin(request: FileRequest, events: CallEvents): RunningCall {
    if (this.#pending.size >= CALLS_MAX) throw new RefusedError("busy", `${CALLS_MAX} file calls are running already`);
    const handle = this.#choose("upload" in request ? request.upload : null);
    const { id, root, user } = this.#register(handle, events);
    post(handle, { type: "call", id, request, caller: callerOf(user, request.as_root), rootFd: root.fd, home: user.home });
    return {
      data: (bytes) => post(handle, { type: "data", id, bytes }, [bytes.buffer]),
      entry: (entry) => post(handle, { type: "entry", id, entry }),
      end: () => post(handle, { type: "end", id }),
      sent: (bytes) => post(handle, { type: "sent", id, bytes }),
      abort: () => post(handle, { type: "abort", id }),
    };
  }

  /** Adds watches; rejects with a `FileFailure`. */
  async watch(request: {
    path: string;
    recursive: boolean;
    asRoot: boolean;
    inotifyFd: number;
    room: number;
  }): Promise<{ watched: Watched[]; isFull: boolean }> {
    const handle = this.#choose(null);
    return await new Promise((resolve, reject) => {
      const { id, root, user } = this.#register(handle, {
        watched: (watched, isFull) => resolve({ watched, isFull }),
        failed: reject,
      });
      const { asRoot, ...rest } = request;
      post(handle, { type: "watch", id, ...rest, caller: callerOf(user, asRoot), rootFd: root.fd, home: user.home });
    });
  }

  get user(): User {
    return this.#user();
  }

  /** Ends the threads; for the end of a bare agent. */
  async close(): Promise<void> {
    await Promise.all(this.#handles.map(({ worker }) => worker.terminate()));
  }

  #register(handle: Handle, events: Pending["events"]): { id: number; root: Root; user: User } {
    const root = this.#root.acquire();
    if (!root) throw new RefusedError("inner_failed", "the user's Linux is not running");
    const id = (this.#lastId += 1);
    this.#pending.set(id, { handle, root, events });
    handle.calls.add(id);
    return { id, root, user: this.#user() };
  }

  #choose(upload: string | null): Handle {
    const keeper = upload === null ? undefined : this.#uploads.get(upload);
    if (keeper && this.#handles.includes(keeper)) return keeper;
    const free = this.#handles.filter((handle) => !isStuck(handle)).toSorted((one, other) => one.calls.size - other.calls.size)[0];
    if (!free && this.#handles.length >= WORKERS_MAX) throw new RefusedError("busy", "file systems in the sprite do not answer");
    const chosen = free ?? this.#start();
    if (upload !== null) {
      this.#uploads.set(upload, chosen);
      const [oldest] = this.#uploads.keys();
      if (this.#uploads.size > 1000 && oldest !== undefined) this.#uploads.delete(oldest);
    }
    return chosen;
  }

  #start(): Handle {
    const shared = new SharedArrayBuffer(4);
    const worker = new Worker(WORKER, { workerData: shared, trackUnmanagedFds: false, resourceLimits: { maxYoungGenerationSizeMb: 8 } });
    const handle: Handle = { worker, busySince: new Int32Array(shared), calls: new Set() };
    worker.unref();
    worker.on("message", (message: FromWorker) => this.#receive(message));
    worker.on("error", ignore("its calls are told at its exit"));
    worker.on("exit", () => this.#lost(handle));
    this.#handles.push(handle);
    return handle;
  }

  #receive(message: FromWorker): void {
    const pending = this.#pending.get(message.id);
    if (!pending) return;
    const { events } = pending;
    switch (message.type) {
      case "record":
        return events.record?.(message.record);
      case "data":
        return events.data?.(message.bytes);
      case "taken":
        return events.taken?.(message.bytes);
      case "done":
        this.#forget(message.id, pending);
        return events.done?.();
      case "failed":
        this.#forget(message.id, pending);
        return events.failed?.(message.failure);
      case "watched":
        this.#forget(message.id, pending);
        return events.watched?.(message.watched, message.isFull);
      case "cleared":
        this.#forget(message.id, pending);
        return events.cleared?.();
    }
  }

  #forget(id: number, pending: Pending): void {
    this.#pending.delete(id);
    pending.handle.calls.delete(id);
    if (pending.root) this.#root.release(pending.root);
  }

  #lost(handle: Handle): void {
    this.#handles = this.#handles.filter((one) => one !== handle);
    for (const id of handle.calls) {
      const pending = this.#pending.get(id);
      if (!pending) continue;
      this.#forget(id, pending);
      pending.events.failed?.({ code: "EIO", message: "EIO: the file worker ended", path: null, offset: null });
      pending.events.cleared?.();
    }
  }

  async #clearOne(handle: Handle): Promise<void> {
    await new Promise<void>((resolve) => {
      const id = (this.#lastId += 1);
      this.#pending.set(id, { handle, root: undefined, events: { cleared: resolve } });
      handle.calls.add(id);
      post(handle, { type: "clear", id });
    });
  }

  /** Ends every call and lets go of every descriptor. A worker that hangs is not waited for. */
  async #clear(): Promise<void> {
    const gone = { code: "EIO", message: "EIO: the user's Linux ended", path: null, offset: null };
    const cleared = this.#handles.map(async (handle) => {
      for (const id of handle.calls) this.#pending.get(id)?.events.failed?.(gone);
      await this.#clearOne(handle);
      for (const id of handle.calls) {
        const pending = this.#pending.get(id);
        if (pending) this.#forget(id, pending);
      }
    });
    await withDeadline("file workers", { timeoutMs: CLEAR_TIMEOUT_MS }, () => Promise.all(cleared)).catch(
      ignore("one hangs; its file system goes with the environment"),
    );
  }
}

function isStuck({ busySince }: Handle): boolean {
  const since = Atomics.load(busySince, 0);
  return since !== 0 && ((Date.now() - since) & 0x7fffffff) > STUCK_MS;
}

function callerOf(user: User, asRoot: boolean): { uid: number; gid: number; groups: readonly number[] } {
  return asRoot ? { uid: 0, gid: 0, groups: [] } : { uid: user.uid, gid: user.gid, groups: user.groups };
}

function post(handle: Handle, message: ToWorker, transfer: ArrayBuffer[] = []): void {
  handle.worker.postMessage(message, transfer);
}
