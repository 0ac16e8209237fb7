/**
 * The thread that does file work, so that a file system that hangs holds up nothing but file calls.
 *
 * Invariants: a step of a call runs with the credentials of its caller; calls take turns after a
 * few ms; output waits for its reader, input is asked for before it is sent.
 */
import { isMainThread, parentPort, workerData } from "node:worker_threads";
import type { FileFailure } from "@sprited/protocol/guest";
import { errnoOf, FileFault, type Ground, type Input, type Work } from "./calls/call.ts";
import { become, type Caller } from "./calls/caller.ts";
import { chmod, chown, copy, remove, rename } from "./calls/change.ts";
import { list, read, stat } from "./calls/read.ts";
import type { FromWorker, ToWorker } from "./calls/messages.ts";
import { readTree, writeTree } from "./calls/tree.ts";
import { Uploads } from "./calls/uploads.ts";
import { addWatches } from "./calls/watch.ts";
import { write } from "./calls/write.ts";
import { record } from "./calls/call.ts";

/** How long a call works before others get their turn, ms. */
const TURN_MS = 8;
/** Output that may be on its way, bytes; a record counts as this many. */
const OUTPUT_BYTES_MAX = 1024 * 1024;
const RECORD_BYTES = 16 * 1024;

const uploads = new Uploads();
const calls = new Map<number, Call>();
/** Since when this thread is inside a step, the low 31 bits of the time in ms; 0 between steps. Read by the other thread. */
const busySince = new Int32Array(workerData as SharedArrayBuffer);

class Call {
  readonly #id: number;
  readonly #work: Work;
  readonly #caller: Caller;
  #inputs: Input[] = [];
  /** What the next step is given. */
  #given: Input = { kind: "end" };
  #wantsInput = false;
  #outputBytes = 0;
  #isScheduled = false;

  constructor(id: number, work: Work, caller: Caller) {
    this.#id = id;
    this.#work = work;
    this.#caller = caller;
  }

  input(input: Input): void {
    this.#inputs.push(input);
    this.run();
  }

  sent(bytes: number): void {
    this.#outputBytes -= bytes;
    this.run();
  }

  abort(): void {
    calls.delete(this.#id);
    this.#step(() => this.#work.return());
  }

  /** Works until it must wait, has ended, or its turn is over. */
  run(): void {
    if (this.#isScheduled || !calls.has(this.#id)) return;
    const endMs = performance.now() + TURN_MS;
    while (calls.has(this.#id) && this.#outputBytes < OUTPUT_BYTES_MAX) {
      if (this.#wantsInput && !this.#takeInput()) return;
      if (performance.now() >= endMs) {
        this.#isScheduled = true;
        setImmediate(() => {
          this.#isScheduled = false;
          this.run();
        });
        return;
      }
      this.#next();
    }
  }

  #takeInput(): boolean {
    const input = this.#inputs.shift();
    if (!input) return false;
    this.#given = input;
    this.#wantsInput = false;
    if (input.kind === "data") post({ type: "taken", id: this.#id, bytes: input.bytes.length });
    if (input.kind === "entry") post({ type: "taken", id: this.#id, bytes: RECORD_BYTES });
    return true;
  }

  #next(): void {
    const result = this.#step(() => this.#work.next(this.#given));
    if (!result) return;
    if (result.done) {
      calls.delete(this.#id);
      post({ type: "done", id: this.#id });
      return;
    }
    const step = result.value;
    if (step.kind === "input") this.#wantsInput = true;
    else if (step.kind === "record") {
      this.#outputBytes += RECORD_BYTES;
      post({ type: "record", id: this.#id, record: step.record });
    } else if (step.kind === "data") {
      this.#outputBytes += step.bytes.length;
      post({ type: "data", id: this.#id, bytes: step.bytes }, [step.bytes.buffer]);
    }
  }

  #step<T>(work: () => T): T | undefined {
    try {
      return asCaller(this.#caller, work);
    } catch (error) {
      calls.delete(this.#id);
      post({ type: "failed", id: this.#id, failure: failureOf(error) });
      return undefined;
    }
  }
}

function asCaller<T>(caller: Caller, work: () => T): T {
  Atomics.store(busySince, 0, (Date.now() & 0x7fffffff) | 1);
  try {
    become(caller);
    return work();
  } finally {
    Atomics.store(busySince, 0, 0);
  }
}

function failureOf(error: unknown): FileFailure {
  if (error instanceof FileFault) {
    return { code: error.code, message: error.message.slice(0, 4096), path: error.path, offset: error.offset };
  }
  const code = errnoOf(error) ?? "EIO";
  return { code, message: `${code}: ${error instanceof Error ? error.message.slice(0, 1000) : "failed"}`, path: null, offset: null };
}

function workOf(message: Extract<ToWorker, { type: "call" }>): Work {
  const { request, rootFd, home } = message;
  const ground: Ground = { rootFd, directory: directoryOf(request.dir, home) };
  switch (request.op) {
    case "stat":
      return stat(ground, request);
    case "list":
      return list(ground, request);
    case "read":
      return read(ground, request);
    case "write":
      return write(ground, request, uploads);
    case "upload":
      return tellUpload(request.upload);
    case "remove":
      return remove(ground, request);
    case "rename":
      return rename(ground, request);
    case "copy":
      return copy(ground, request);
    case "chmod":
      return chmod(ground, request);
    case "chown":
      return chown(ground, request);
    case "tree_read":
      return readTree(ground, request);
    case "tree_write":
      return writeTree(ground, request, uploads);
    case "watch":
      throw new FileFault("EINVAL", "EINVAL: watches are the other thread's");
  }
}

function directoryOf(asked: string | null, home: string): string {
  if (asked === null) return home;
  return asked.startsWith("/") ? asked : `${home}/${asked}`;
}

function* tellUpload(id: string): Work {
  yield record({ kind: "upload", offset: uploads.offsetOf(id) });
}

function post(message: FromWorker, transfer: ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, transfer);
}

function receive(message: ToWorker): void {
  const call = calls.get(message.id);
  switch (message.type) {
    case "call": {
      const begun = new Call(message.id, workOf(message), message.caller);
      calls.set(message.id, begun);
      begun.run();
      return;
    }
    case "data":
      call?.input({ kind: "data", bytes: message.bytes });
      return;
    case "entry":
      call?.input({ kind: "entry", entry: message.entry });
      return;
    case "end":
      call?.input({ kind: "end" });
      return;
    case "sent":
      call?.sent(message.bytes);
      return;
    case "abort":
      call?.abort();
      post({ type: "done", id: message.id });
      return;
    case "clear":
      for (const open of calls.values()) open.abort();
      uploads.clear();
      post({ type: "cleared", id: message.id });
      return;
    case "watch":
      try {
        const ground: Ground = { rootFd: message.rootFd, directory: message.home };
        post({ type: "watched", id: message.id, ...asCaller(message.caller, () => addWatches(ground, message)) });
      } catch (error) {
        post({ type: "failed", id: message.id, failure: failureOf(error) });
      }
  }
}

if (!isMainThread) parentPort?.on("message", receive);
