/**
 * Checkpoints of sprites: made, listed, restored, deleted (docs/spec/checkpoints.md). One change
 * at a time for each sprite; everything long goes on when its caller leaves.
 */
import { ignore, Mailbox, MailboxFullError, sleep, waitFor } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import type { Replacement, Sprite, SpriteRegistry } from "../sprite/index.ts";
import type { CheckpointRow } from "../store/index.ts";
import type { CheckpointList, CheckpointView, CreateCheckpoint } from "./checkpoint.ts";
import { createCheckpoint } from "./create.ts";
import type { CheckpointMeta, CheckpointPaths } from "./files.ts";
import { Operation } from "./operation.ts";
import { unknownCheckpoint } from "./parts.ts";
import { recoverRestore, restoreCheckpoint, type RestoreParts, unsettledRestore } from "./restore.ts";
import { restoring, type StateFiles } from "./sprite-state.ts";
import { historyOf, lineOf, prunable } from "./tree.ts";
import { emptyScratch, type Verifier } from "./verifier.ts";

/** Changes that may wait for one sprite. */
const QUEUE_CAPACITY = 8;
/** How long an orderly end waits for work under way, ms. */
const CLOSE_WAIT_MS = 10_000;
/** Longest wait for a checkpoint's check by whoever makes something of it, ms. */
const CHECK_WAIT_MS = 10 * 60_000;

export interface CheckpointsOptions {
  parts: RestoreParts;
  sprites: Pick<SpriteRegistry, "get" | "subscribe" | "ids" | "idsOf">;
  verifier: Verifier;
  scratch: string;
  /** Automatic checkpoints that are kept of each sprite. */
  autoKeep: number;
  /** Build of the VMM that resumes memory here. */
  vmmBuild: string;
  /** Asked before one is made for its owner; throws the refusal. `present`: checkpoints of the organization. */
  admit?: ((organizationId: string, present: number) => Promise<void>) | undefined;
}

/** What a restore ends with. */
export interface Restored {
  checkpoint: CheckpointRow;
  /** The automatic checkpoint of the state before. */
  previous: CheckpointRow;
  /** Whether the processes go on. */
  withMemory: boolean;
}

/** A checkpoint as the beginning of something else. Its files stay for as long as nobody deletes it. */
export interface CheckpointSource {
  id: string;
  meta: CheckpointMeta;
  files: StateFiles;
}

/** Says why a checkpoint is still needed; undefined when it is not. */
export type UseOf = (spriteId: string, checkpointId: string) => string | undefined;

export class Checkpoints {
  readonly #options: CheckpointsOptions;
  readonly #queues = new Map<string, Mailbox>();
  readonly #uses: UseOf[] = [];
  readonly #unsubscribe: () => void;
  /** Operations under way, for an orderly end. */
  readonly #running = new Set<Promise<unknown>>();

  constructor(options: CheckpointsOptions) {
    this.#options = options;
    this.#unsubscribe = options.sprites.subscribe((view, change) => {
      if (change === "deleted") this.#forget(view.id);
    });
  }

  /** Another feature's reason to keep checkpoints. */
  addUse(use: UseOf): void {
    this.#uses.push(use);
  }

  /** Settles what an earlier daemon left: call once, after the sprites were recovered and before anything wakes one. */
  async recover(): Promise<void> {
    const { parts, sprites } = this.#options;
    await emptyScratch(this.#options.scratch);
    for (const restore of parts.records.restores()) {
      const outcome = await recoverRestore(parts, restore).catch((error: unknown) => error);
      const fields = {
        event: "checkpoint.recover",
        spriteId: restore.spriteId,
        checkpointId: restore.targetId,
        previous: restore.previousId,
      };
      if (typeof outcome === "string") parts.logger.warn({ ...fields, outcome }, "settled an interrupted restore");
      else parts.logger.error({ ...fields, outcome: "failed", err: outcome }, "an interrupted restore could not be settled");
    }
    for (const row of parts.records.inState("creating")) {
      await parts.files.remove(row.spriteId, row.id);
      parts.records.remove(row.spriteId, row.id);
    }
    const known = new Set(sprites.ids());
    for (const spriteId of await parts.files.spriteIds()) {
      if (known.has(spriteId)) await parts.files.sweep(spriteId, new Set(parts.records.ids(spriteId)));
    }
  }

  /** What a restore left half done of the sprite's files (CKPT-17); for the sprite, before they are used. */
  unsettled(spriteId: string): Replacement | undefined {
    const swap = unsettledRestore(this.#options.parts, spriteId);
    return swap && restoring(swap);
  }

  /** Goes on with the checks an earlier daemon left. Call when no machine of it is left either. */
  resumeChecks(): void {
    for (const row of this.#options.parts.records.inState("verifying")) this.#options.verifier.enqueue(row);
  }

  /** Digests of the system images that kept memories need. */
  async systems(): Promise<string[]> {
    const { records, files } = this.#options.parts;
    const kept = records.withMemory();
    const metas = await Promise.all(
      kept.map(({ spriteId, id }) => files.verify(spriteId, id).catch(ignore("a damaged one needs nothing"))),
    );
    return [...new Set(metas.flatMap((meta) => meta?.memory?.record.system ?? []))];
  }

  /** The verified files of a checkpoint, for looking into it. Throws `checkpoint_not_found`, `disk_damaged`. */
  async look(organizationId: string, name: string, id: string): Promise<{ paths: CheckpointPaths; meta: CheckpointMeta }> {
    const { files } = this.#options.parts;
    const sprite = this.#sprite(organizationId, name);
    this.#row(sprite.id, id);
    return { paths: files.paths(sprite.id, id), meta: await files.verify(sprite.id, id) };
  }

  async close(): Promise<void> {
    this.#unsubscribe();
    const ended = Promise.all([...this.#running].map((work) => work.catch(ignore("told to its watchers"))));
    // What is cut off by the end of the program is settled by the next one.
    await Promise.race([ended, sleep(CLOSE_WAIT_MS, { ref: false })]);
    await this.#options.verifier.close();
  }

  /** Begins a checkpoint. Its watchers see the id in the last event. */
  create(organizationId: string, name: string, request: CreateCheckpoint): Operation<CheckpointRow> {
    const sprite = this.#sprite(organizationId, name);
    return this.#begin(sprite.id, async (say) => {
      const row = await this.make(sprite, { ...request, isAuto: false }, (begun) => say(`Creating checkpoint ${begun.id}...`));
      if (request.memory && !row.hasMemory) say("The sprite keeps no memory now; only its disk was kept.");
      return { text: `Checkpoint ${row.id} created successfully`, result: row };
    });
  }

  /** Makes a checkpoint out of turn: for features that hold the sprite's turn, or need none. */
  async make(
    sprite: Sprite,
    request: CreateCheckpoint & { isAuto: boolean },
    begun: (row: CheckpointRow) => void = () => {},
  ): Promise<CheckpointRow> {
    // One that undoes a restore is never refused: the restore would lose the state before it.
    if (!request.isAuto) await this.#admit(sprite.organizationId);
    const row = await createCheckpoint(this.#options.parts, sprite, request, begun);
    this.#options.verifier.enqueue(row);
    if (request.isAuto) await this.#prune(sprite.id);
    return row;
  }

  list(organizationId: string, name: string, query: { history?: string | undefined; includeAuto: boolean }): CheckpointList {
    const sprite = this.#sprite(organizationId, name);
    const { records } = this.#options.parts;
    const rows = records.list(sprite.id);
    const current = records.current(sprite.id);
    const wanted = rows
      .filter((row) => row.state !== "creating" && (query.includeAuto || !row.isAuto))
      .filter((row) => query.history === undefined || query.history === "" || lineOf(rows, row.id).includes(query.history))
      .sort((a, b) => b.position - a.position);
    return {
      checkpoints: wanted.map((row) => ({ ...row, history: historyOf(rows, row.id), isCurrent: row.id === current })),
      currentHistory: lineOf(rows, current),
      createdAtMs: sprite.createdAtMs,
    };
  }

  get(organizationId: string, name: string, id: string): CheckpointView {
    const sprite = this.#sprite(organizationId, name);
    const row = this.#row(sprite.id, id);
    const { records } = this.#options.parts;
    return { ...row, history: historyOf(records.list(sprite.id), id), isCurrent: records.current(sprite.id) === id };
  }

  /** Throws `checkpoint_in_use` for the current one and for what something else needs. */
  async delete(organizationId: string, name: string, id: string): Promise<void> {
    const sprite = this.#sprite(organizationId, name);
    await this.#inTurn(sprite.id, async () => {
      this.#row(sprite.id, id);
      const use = this.#useOf(sprite.id, id);
      if (use !== undefined) throw new ApiError("checkpoint_in_use", `checkpoint ${id} cannot be deleted: ${use}`);
      await this.#remove(sprite.id, id);
    });
  }

  /** Begins a restore in place. */
  restore(organizationId: string, name: string, id: string): Operation<Restored> {
    const sprite = this.#sprite(organizationId, name);
    this.#restorable(sprite.id, id);
    return this.#begin(sprite.id, (say) => this.#restore(sprite, id, say));
  }

  /** Begins going back to the state before the last restore. Throws `checkpoint_not_found` when there was none. */
  undoRestore(organizationId: string, name: string): Operation<Restored> {
    const sprite = this.#sprite(organizationId, name);
    const previous = this.#options.parts.records
      .list(sprite.id)
      .filter((row) => row.isAuto && row.state !== "creating")
      .at(-1);
    if (!previous) throw new ApiError("checkpoint_not_found", "there is no restore to undo");
    this.#restorable(sprite.id, previous.id);
    return this.#begin(sprite.id, (say) => this.#restore(sprite, previous.id, say));
  }

  /**
   * A verified checkpoint with its files, for what is made of it: the named one, or one made now.
   * Waits for its check. Throws `checkpoint_not_found`, `checkpoint_damaged`, and what making one throws.
   */
  async source(
    request: { organizationId: string; spriteName: string; checkpointId: string | undefined; memory: boolean; comment?: string },
    options: { signal?: AbortSignal | undefined } = {},
  ): Promise<CheckpointSource> {
    const { organizationId, spriteName, memory } = request;
    const { parts } = this.#options;
    const sprite = this.#sprite(organizationId, spriteName);
    const id = request.checkpointId ?? (await this.create(organizationId, spriteName, { comment: request.comment ?? "", memory }).done).id;
    this.#restorable(sprite.id, id);
    await waitFor(`the check of checkpoint ${id}`, { timeoutMs: CHECK_WAIT_MS, everyMs: 50, signal: options.signal }, () => {
      return this.#restorable(sprite.id, id).state === "complete";
    });
    const meta = await parts.files.verify(sprite.id, id);
    return { id, meta, files: parts.files.stateOf(sprite.id, id, meta) };
  }

  async #restore(sprite: Sprite, id: string, say: (text: string) => void) {
    const { parts, verifier, vmmBuild } = this.#options;
    const target = this.#restorable(sprite.id, id);
    say(`Restoring checkpoint ${id}...`);
    using _hold = parts.activities.hold(sprite.id, "operation", `restore of ${id}`);
    const meta = await parts.files.verify(sprite.id, id);
    const withMemory = meta.memory !== null && meta.memory.record.build === vmmBuild;
    if (meta.memory && !withMemory)
      say("The memory was kept by another build of the VMM and cannot be resumed; only the disk is restored.");
    const previous = await restoreCheckpoint(parts, sprite, { target, meta, withMemory }, say);
    verifier.enqueue(previous);
    await this.#prune(sprite.id);
    return {
      text: `Restored checkpoint ${id}; the state before is ${previous.id}`,
      result: { checkpoint: target, previous, withMemory },
    };
  }

  async #admit(organizationId: string): Promise<void> {
    const { admit, sprites, parts } = this.#options;
    if (!admit) return;
    const present = sprites.idsOf(organizationId).reduce((sum, spriteId) => sum + parts.records.ids(spriteId).length, 0);
    await admit(organizationId, present);
  }

  #restorable(spriteId: string, id: string): CheckpointRow {
    const row = this.#row(spriteId, id);
    if (row.state !== "failed") return row;
    throw new ApiError("checkpoint_damaged", `checkpoint ${id} did not pass its check (${row.health}) and cannot be restored`);
  }

  #row(spriteId: string, id: string): CheckpointRow {
    const row = this.#options.parts.records.find(spriteId, id);
    if (!row || row.state === "creating") throw unknownCheckpoint(id);
    return row;
  }

  #sprite(organizationId: string, name: string): Sprite {
    return this.#options.sprites.get(organizationId, name);
  }

  #useOf(spriteId: string, id: string): string | undefined {
    const { records } = this.#options.parts;
    if (records.current(spriteId) === id) return "the sprite's present state came from it";
    const restore = records.restoreOf(spriteId);
    if (restore?.targetId === id || restore?.previousId === id) return "a restore that is not finished needs it";
    for (const use of this.#uses) {
      const reason = use(spriteId, id);
      if (reason !== undefined) return reason;
    }
    return undefined;
  }

  /** Automatic ones that are too many go. What cannot be removed now goes another time: nobody asked for it. */
  async #prune(spriteId: string): Promise<void> {
    const { records, logger } = this.#options.parts;
    try {
      const ids = prunable(records.list(spriteId), {
        keep: this.#options.autoKeep,
        current: records.current(spriteId),
        isUsed: (id) => this.#useOf(spriteId, id) !== undefined,
      });
      for (const id of ids) await this.#remove(spriteId, id);
    } catch (error) {
      logger.warn({ event: "checkpoint.prune", outcome: "failed", spriteId, err: error }, "old automatic checkpoints could not be removed");
    }
  }

  /** The row goes first: files without a row are swept, a row without files would be a broken promise. */
  async #remove(spriteId: string, id: string): Promise<void> {
    this.#options.parts.records.remove(spriteId, id);
    await this.#options.parts.files.remove(spriteId, id);
  }

  #forget(spriteId: string): void {
    this.#queues.delete(spriteId);
    this.#track(this.#options.parts.files.removeAll(spriteId)).catch(ignore("swept at the next start"));
  }

  #begin<R>(spriteId: string, work: ConstructorParameters<typeof Operation<R>>[0]): Operation<R> {
    const operation = new Operation<R>((say) => this.#inTurn(spriteId, () => work(say)));
    this.#track(operation.done).catch((error: unknown) => {
      this.#options.parts.logger.warn(
        { event: "checkpoint.operation", outcome: "failed", spriteId, err: error },
        "a change of checkpoints failed",
      );
    });
    return operation;
  }

  async #inTurn<T>(spriteId: string, work: () => Promise<T>): Promise<T> {
    let queue = this.#queues.get(spriteId);
    if (!queue) this.#queues.set(spriteId, (queue = new Mailbox({ capacity: QUEUE_CAPACITY })));
    try {
      return await queue.run(work);
    } catch (error) {
      if (!(error instanceof MailboxFullError)) throw error;
      throw new ApiError("busy", "too many changes of this sprite's checkpoints are waiting", { cause: error });
    }
  }

  #track<T>(work: Promise<T>): Promise<T> {
    const tracked = work.finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
    return tracked;
  }
}
