/**
 * Calls on files in sprites: wakes the sprite, holds it awake while a call runs, and speaks of
 * what went wrong in public errors. Nothing is buffered: bytes pass as fast as the slower end.
 */
import { ignore } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import type { FileChange, FileEntry, FileRecord, FileRequest, TreeEntry } from "@sprited/protocol/guest";
import { type FileAnswer, GuestError, type GuestFileCall } from "../guest/index.ts";
import type { Activities, GuestLife } from "../sprite/index.ts";
import { asFileError } from "./file-error.ts";

/** From an open link to the guest's first word, ms. */
const FIRST_ANSWER_MS = 60_000;
/** The same where the guest first works for long: hashing, copying, removing, receiving. */
const LONG_ANSWER_MS = 24 * 3_600_000;

const LONG: ReadonlySet<FileRequest["op"]> = new Set(["write", "tree_write", "copy", "remove", "chmod", "chown", "tree_read"]);

/** What files need of the sprite hub. */
export interface FileSprites {
  /** The id of a visible sprite; throws `sprite_not_found`. */
  idOf(organizationId: string, name: string): string;
  wakeLife(spriteId: string, options?: { signal?: AbortSignal | undefined }): Promise<GuestLife>;
  readonly activities: Activities;
}

/** Which sprite, and until when. */
export interface FileScope {
  organizationId: string;
  spriteName: string;
  signal: AbortSignal;
}

/** A source of bytes, read only as fast as the guest takes them. */
export type Bytes = AsyncIterable<Uint8Array>;

export interface FileContent {
  entry: FileEntry;
  /** First byte of `bytes` in the file. */
  from: number;
  /** How many bytes follow; undefined when that shows only at the end. */
  length: number | undefined;
  bytes: Bytes;
  /** Leaves the rest unread. Idempotent. */
  close(): void;
}

/** What a call that changes many files did. */
export interface FileChanges {
  changes: FileChange[];
  count: number;
  bytes: number;
}

type OpOf<Op extends FileRequest["op"]> = Omit<Extract<FileRequest, { op: Op }>, "op">;
export type TreeItem =
  | { kind: "entry"; entry: FileEntry }
  | { kind: "bytes"; bytes: Uint8Array }
  | { kind: "skipped"; path: string; code: string };
/** One entry to write, with its bytes when it is a file. */
export interface TreeSource {
  entry: TreeEntry;
  bytes: Bytes | undefined;
}

export class Files {
  readonly #sprites: FileSprites;

  constructor(sprites: FileSprites) {
    this.#sprites = sprites;
  }

  /** One file, as it is. Throws `ApiError`, as everything here. */
  async stat(scope: FileScope, request: OpOf<"stat">): Promise<{ entry: FileEntry; digest: string | null }> {
    for await (const answer of this.#run(scope, { op: "stat", ...request })) {
      if (answer.kind === "record" && answer.record.kind === "file") return answer.record;
    }
    throw unexpected();
  }

  /** Entries as they are found. The first batch is there, or the error thrown, before this resolves. */
  async list(scope: FileScope, request: OpOf<"list">): Promise<AsyncGenerator<FileEntry[], void, void>> {
    const batches = entriesOf(this.#run(scope, { op: "list", ...request }));
    const first = await batches.next();
    return (async function* () {
      try {
        if (!first.done) yield first.value;
        yield* batches;
      } finally {
        await batches.return();
      }
    })();
  }

  /** Resolves when the file is open. */
  async read(scope: FileScope, request: OpOf<"read">): Promise<FileContent> {
    const answers = this.#run(scope, { op: "read", ...request });
    const head = await answers.next();
    const record = head.done || head.value.kind !== "record" ? undefined : head.value.record;
    if (record?.kind !== "file") throw unexpected();
    const { entry, from, length } = record;
    const isUnsized = entry.size === 0 && from === 0;
    const bytes = (async function* () {
      let count = 0;
      for await (const answer of answers) {
        if (answer.kind !== "data") throw unexpected();
        count += answer.bytes.length;
        if (!isUnsized && count > length) throw unexpected();
        yield answer.bytes;
      }
      if (!isUnsized && count !== length) throw unexpected();
    })();
    return {
      entry,
      from,
      length: isUnsized ? undefined : length,
      bytes,
      close: () => void answers.return().catch(ignore("it was left on purpose")),
    };
  }

  async write(scope: FileScope, request: OpOf<"write">, content: Bytes): Promise<Extract<FileRecord, { kind: "written" }>> {
    const send = async (call: GuestFileCall): Promise<void> => {
      for await (const bytes of content) await call.send(bytes);
    };
    for await (const answer of this.#run(scope, { op: "write", ...request }, send)) {
      if (answer.kind === "record" && answer.record.kind === "written") return answer.record;
    }
    throw unexpected();
  }

  /** Bytes that the sprite keeps of an interrupted upload. */
  async uploaded(scope: FileScope, upload: string): Promise<number> {
    for await (const answer of this.#run(scope, { op: "upload", as_root: false, dir: null, upload })) {
      if (answer.kind === "record" && answer.record.kind === "upload") return answer.record.offset;
    }
    throw unexpected();
  }

  /** Removes, renames, copies or changes files; resolves when it is done. */
  async change(
    scope: FileScope,
    request: Extract<FileRequest, { op: "remove" | "rename" | "copy" | "chmod" | "chown" }>,
  ): Promise<FileChanges> {
    const changes: FileChange[] = [];
    for await (const answer of this.#run(scope, request)) {
      if (answer.kind !== "record") throw unexpected();
      if (answer.record.kind === "changes") changes.push(...answer.record.changes);
      else if (answer.record.kind === "total") return { changes, count: answer.record.count, bytes: answer.record.bytes };
      if (changes.length > CHANGES_MAX) throw unexpected();
    }
    throw unexpected();
  }

  /** A directory with everything in it; the first item is there, or the error thrown, before this resolves. */
  async readTree(scope: FileScope, request: OpOf<"tree_read">): Promise<AsyncGenerator<TreeItem, void, void>> {
    const items = itemsOf(this.#run(scope, { op: "tree_read", ...request }));
    const first = await items.next();
    return (async function* () {
      try {
        if (!first.done) yield first.value;
        yield* items;
      } finally {
        await items.return();
      }
    })();
  }

  async writeTree(
    scope: FileScope,
    request: OpOf<"tree_write">,
    sources: AsyncIterable<TreeSource>,
  ): Promise<{ count: number; bytes: number }> {
    const send = async (call: GuestFileCall): Promise<void> => {
      for await (const { entry, bytes } of sources) {
        await call.sendEntry(entry);
        if (bytes) for await (const piece of bytes) await call.send(piece);
      }
    };
    for await (const answer of this.#run(scope, { op: "tree_write", ...request }, send)) {
      if (answer.kind === "record" && answer.record.kind === "total") return answer.record;
    }
    throw unexpected();
  }

  /** Events until the signal, or until the sprite is gone. */
  watch(scope: FileScope, request: OpOf<"watch">): AsyncGenerator<FileAnswer, void, void> {
    return this.#run(scope, { op: "watch", ...request });
  }

  /**
   * Runs a call: its answers, while `send` feeds it. A failure of `send` is the caller's own (a
   * client that left) and ends the call; one of the guest ends `send`.
   */
  async *#run(
    scope: FileScope,
    request: FileRequest,
    send?: (call: GuestFileCall) => Promise<void>,
  ): AsyncGenerator<FileAnswer, void, void> {
    const spriteId = this.#sprites.idOf(scope.organizationId, scope.spriteName);
    using _ = this.#sprites.activities.hold(spriteId, "file", request.op);
    let sendFailure: { error: unknown } | undefined;
    let call: GuestFileCall | undefined;
    try {
      const { opened, first } = await this.#open(spriteId, request, scope.signal, send !== undefined);
      call = opened;
      send?.(opened).then(
        () => opened.endInput(),
        (error: unknown) => {
          sendFailure = { error };
          opened.close();
        },
      );
      if (first) yield* first;
      else yield* opened.answers;
    } catch (error) {
      throw sendFailure ? sendFailure.error : asFileError(error);
    } finally {
      call?.close();
    }
  }

  /** A link that turns out to be dead is dialled once more, as long as nothing was sent on it. */
  async #open(
    spriteId: string,
    request: FileRequest,
    signal: AbortSignal,
    sends: boolean,
  ): Promise<{ opened: GuestFileCall; first?: AsyncGenerator<FileAnswer, void, void> }> {
    const firstAnswerMs = LONG.has(request.op) || (request.op === "stat" && request.digest) ? LONG_ANSWER_MS : FIRST_ANSWER_MS;
    const dial = async (): Promise<GuestFileCall> => {
      const life = await this.#sprites.wakeLife(spriteId, { signal });
      return (await life.link({ signal })).openFileCall(request, { signal, firstAnswerMs });
    };
    const opened = await dial();
    if (sends || !REPEATABLE.has(request.op)) return { opened };
    const answers = opened.answers[Symbol.asyncIterator]();
    try {
      return { opened, first: resumed(await answers.next(), answers) };
    } catch (error) {
      opened.close();
      if (!(error instanceof GuestError) || error.code !== "guest_link_lost" || signal.aborted) throw error;
    }
    return { opened: await dial() };
  }
}

/** Calls that may be asked twice. */
const REPEATABLE: ReadonlySet<FileRequest["op"]> = new Set(["stat", "list", "read", "upload", "tree_read", "watch"]);
/** Named changes of one call; the agent names fewer. */
const CHANGES_MAX = 20_000;

async function* resumed(first: IteratorResult<FileAnswer>, rest: AsyncIterator<FileAnswer>): AsyncGenerator<FileAnswer, void, void> {
  try {
    for (let step = first; !step.done; step = await rest.next()) yield step.value;
  } finally {
    await rest.return?.();
  }
}

async function* entriesOf(answers: AsyncIterable<FileAnswer>): AsyncGenerator<FileEntry[], void, void> {
  for await (const answer of answers) {
    if (answer.kind !== "record" || answer.record.kind !== "entries") throw unexpected();
    yield answer.record.entries;
  }
}

/** Checks that every file has exactly the bytes it was announced with. */
async function* itemsOf(answers: AsyncIterable<FileAnswer>): AsyncGenerator<TreeItem, void, void> {
  let missing = 0;
  for await (const answer of answers) {
    if (answer.kind === "data") {
      missing -= answer.bytes.length;
      if (missing < 0) throw unexpected();
      yield { kind: "bytes", bytes: answer.bytes };
      continue;
    }
    if (missing > 0) throw unexpected();
    const { record } = answer;
    if (record.kind === "skipped") yield { kind: "skipped", path: record.path, code: record.code };
    else if (record.kind === "tree") {
      missing = record.entry.type === "file" ? record.entry.size : 0;
      yield { kind: "entry", entry: record.entry };
    } else throw unexpected();
  }
  if (missing > 0) throw unexpected();
}

function unexpected(): ApiError {
  return new ApiError("guest_protocol", "the sprite's machine answered a file call with something else");
}
