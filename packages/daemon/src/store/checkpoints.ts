/**
 * Queries on checkpoints: the tree of save points of each sprite, what its present state came
 * from, and restores under way. Every write is durable when its call returns.
 */
import type { Database } from "./database.ts";
import type { Schema } from "./schema.ts";

export interface CheckpointRow {
  spriteId: string;
  /** `v0`, `v1`, …; `auto-1`, … for automatic ones. Never used twice in a sprite. */
  id: string;
  /** Order of making within the sprite. */
  position: number;
  comment: string;
  /** The checkpoint the sprite's state came from. */
  parentId: string | undefined;
  isAuto: boolean;
  hasMemory: boolean;
  state: "creating" | "verifying" | "complete" | "failed";
  /** Empty while healthy; else what is wrong, one word. */
  health: string;
  diskBytes: number;
  memoryBytes: number;
  createdAtMs: number;
}

export interface RestoreRow {
  spriteId: string;
  targetId: string;
  previousId: string;
  /** `begun`: nothing of the sprite was changed yet; `swapping`: it must be finished; `putting_back`: it failed and must be undone. */
  phase: "begun" | "swapping" | "putting_back";
  /** Whether the target's memory is restored too. */
  withMemory: boolean;
  startedAtMs: number;
}

type NewRestore = Omit<RestoreRow, "previousId" | "phase">;
type NewCheckpoint = Pick<CheckpointRow, "spriteId" | "comment" | "isAuto" | "createdAtMs">;
type CheckpointChange = Partial<Pick<CheckpointRow, "state" | "health" | "hasMemory" | "diskBytes" | "memoryBytes">>;

/** The queries as the checkpoint feature takes them. */
export class CheckpointRecords {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** In the order of making. */
  list(spriteId: string): CheckpointRow[] {
    const query = this.#query.selectFrom("checkpoints").selectAll().where("sprite_id", "=", spriteId).orderBy("position");
    return this.#database.all(query).map(checkpointFromRow);
  }

  find(spriteId: string, id: string): CheckpointRow | undefined {
    const query = this.#query.selectFrom("checkpoints").selectAll().where("sprite_id", "=", spriteId).where("id", "=", id);
    const row = this.#database.first(query);
    return row && checkpointFromRow(row);
  }

  /** Every checkpoint of that state, of all sprites. */
  inState(state: CheckpointRow["state"]): CheckpointRow[] {
    const query = this.#query.selectFrom("checkpoints").selectAll().where("state", "=", state).orderBy("created_at_ms");
    return this.#database.all(query).map(checkpointFromRow);
  }

  /** Every checkpoint that kept memory. */
  withMemory(): CheckpointRow[] {
    return this.#database.all(this.#query.selectFrom("checkpoints").selectAll().where("memory", "=", 1)).map(checkpointFromRow);
  }

  /** Ids of the sprite's checkpoints, for telling files that belong to none. */
  ids(spriteId: string): string[] {
    const query = this.#query.selectFrom("checkpoints").select("id").where("sprite_id", "=", spriteId);
    return this.#database.all(query).map(({ id }) => id);
  }

  /** What the present state of the sprite came from. */
  current(spriteId: string): string | undefined {
    return this.#head(spriteId)?.current_id ?? undefined;
  }

  /** Adds a row in state `creating` under the next id. */
  begin(fresh: NewCheckpoint): CheckpointRow {
    return this.#database.transaction(() => {
      const head = this.#head(fresh.spriteId) ?? this.#makeHead(fresh.spriteId);
      const row: CheckpointRow = {
        ...fresh,
        id: fresh.isAuto ? `auto-${head.next_automatic}` : `v${head.next_number}`,
        position: head.next_position,
        parentId: head.current_id ?? undefined,
        hasMemory: false,
        state: "creating",
        health: "",
        diskBytes: 0,
        memoryBytes: 0,
      };
      this.#database.run(this.#query.insertInto("checkpoints").values(rowFromCheckpoint(row)));
      const counters = {
        next_position: head.next_position + 1,
        next_number: head.next_number + (fresh.isAuto ? 0 : 1),
        next_automatic: head.next_automatic + (fresh.isAuto ? 1 : 0),
      };
      this.#database.run(this.#query.updateTable("checkpoint_heads").set(counters).where("sprite_id", "=", fresh.spriteId));
      return row;
    });
  }

  /** A missing one is fine. */
  update(spriteId: string, id: string, change: CheckpointChange): void {
    const columns = {
      ...(change.state === undefined ? {} : { state: change.state }),
      ...(change.health === undefined ? {} : { health: change.health }),
      ...(change.hasMemory === undefined ? {} : { memory: Number(change.hasMemory) }),
      ...(change.diskBytes === undefined ? {} : { disk_bytes: change.diskBytes }),
      ...(change.memoryBytes === undefined ? {} : { memory_bytes: change.memoryBytes }),
    };
    this.#database.run(this.#query.updateTable("checkpoints").set(columns).where("sprite_id", "=", spriteId).where("id", "=", id));
  }

  /** The checkpoint is durable, and the present state comes from it now. */
  acknowledge(spriteId: string, id: string, change: CheckpointChange): void {
    this.#database.transaction(() => {
      this.update(spriteId, id, { ...change, state: "verifying" });
      this.#setCurrent(spriteId, id);
    });
  }

  /** Removes a row; what came from it now comes from its parent. */
  remove(spriteId: string, id: string): void {
    const query = this.#query;
    this.#database.transaction(() => {
      const row = this.#database.first(
        query.selectFrom("checkpoints").select("parent_id").where("sprite_id", "=", spriteId).where("id", "=", id),
      );
      const parent = row?.parent_id ?? null;
      this.#database.run(
        query.updateTable("checkpoints").set({ parent_id: parent }).where("sprite_id", "=", spriteId).where("parent_id", "=", id),
      );
      this.#database.run(
        query.updateTable("checkpoint_heads").set({ current_id: parent }).where("sprite_id", "=", spriteId).where("current_id", "=", id),
      );
      this.#database.run(query.deleteFrom("checkpoints").where("sprite_id", "=", spriteId).where("id", "=", id));
    });
  }

  /** Restores that have begun and not ended. */
  restores(): RestoreRow[] {
    return this.#database.all(this.#query.selectFrom("checkpoint_restores").selectAll()).map(restoreFromRow);
  }

  /** The sprite's restore that has begun and not ended. */
  restoreOf(spriteId: string): RestoreRow | undefined {
    const row = this.#database.first(this.#query.selectFrom("checkpoint_restores").selectAll().where("sprite_id", "=", spriteId));
    return row && restoreFromRow(row);
  }

  /** Records a restore that changes nothing yet, with a row in state `creating` for the state before it. */
  beginRestore(fresh: NewRestore): { previous: CheckpointRow; restore: RestoreRow } {
    const { spriteId, targetId, withMemory, startedAtMs } = fresh;
    return this.#database.transaction(() => {
      const comment = `before the restore of ${targetId}`;
      const previous = this.begin({ spriteId, comment, isAuto: true, createdAtMs: startedAtMs });
      this.#database.run(
        this.#query.insertInto("checkpoint_restores").values({
          sprite_id: spriteId,
          target_id: targetId,
          previous_id: previous.id,
          phase: "begun",
          memory: Number(withMemory),
          started_at_ms: startedAtMs,
        }),
      );
      return { previous, restore: { ...fresh, previousId: previous.id, phase: "begun" } };
    });
  }

  /** The state before is safe as a checkpoint: from here on the restore is finished, whatever happens. */
  commitRestore(restore: RestoreRow, previous: CheckpointChange): void {
    this.#database.transaction(() => {
      this.update(restore.spriteId, restore.previousId, { ...previous, state: "verifying" });
      this.#setPhase(restore.spriteId, "swapping");
    });
  }

  /** The restore failed after its commit: from here on the state before is put back, whatever happens. */
  putBackRestore(restore: RestoreRow): void {
    this.#setPhase(restore.spriteId, "putting_back");
  }

  /** The sprite's files are the target's. */
  finishRestore(restore: RestoreRow): void {
    this.#database.transaction(() => {
      this.#setCurrent(restore.spriteId, restore.targetId);
      this.#endRestore(restore.spriteId);
    });
  }

  /** Nothing was changed, or everything was put back: the checkpoint of the state before is of no use. */
  undoRestore(restore: RestoreRow): void {
    this.#database.transaction(() => {
      this.#endRestore(restore.spriteId);
      this.remove(restore.spriteId, restore.previousId);
    });
  }

  #endRestore(spriteId: string): void {
    this.#database.run(this.#query.deleteFrom("checkpoint_restores").where("sprite_id", "=", spriteId));
  }

  #setPhase(spriteId: string, phase: RestoreRow["phase"]): void {
    this.#database.run(this.#query.updateTable("checkpoint_restores").set({ phase }).where("sprite_id", "=", spriteId));
  }

  get #query(): Database["query"] {
    return this.#database.query;
  }

  #head(spriteId: string): Schema["checkpoint_heads"] | undefined {
    return this.#database.first(this.#query.selectFrom("checkpoint_heads").selectAll().where("sprite_id", "=", spriteId));
  }

  #makeHead(spriteId: string): Schema["checkpoint_heads"] {
    const head = { sprite_id: spriteId, next_position: 0, next_number: 0, next_automatic: 1, current_id: null };
    this.#database.run(this.#query.insertInto("checkpoint_heads").values(head));
    return head;
  }

  #setCurrent(spriteId: string, id: string): void {
    this.#database.run(this.#query.updateTable("checkpoint_heads").set({ current_id: id }).where("sprite_id", "=", spriteId));
  }
}

function checkpointFromRow(row: Schema["checkpoints"]): CheckpointRow {
  return {
    spriteId: row.sprite_id,
    id: row.id,
    position: row.position,
    comment: row.comment,
    parentId: row.parent_id ?? undefined,
    isAuto: row.automatic !== 0,
    hasMemory: row.memory !== 0,
    state: row.state as CheckpointRow["state"],
    health: row.health,
    diskBytes: row.disk_bytes,
    memoryBytes: row.memory_bytes,
    createdAtMs: row.created_at_ms,
  };
}

function rowFromCheckpoint(row: CheckpointRow): Schema["checkpoints"] {
  return {
    sprite_id: row.spriteId,
    id: row.id,
    position: row.position,
    comment: row.comment,
    parent_id: row.parentId ?? null,
    automatic: Number(row.isAuto),
    memory: Number(row.hasMemory),
    state: row.state,
    health: row.health,
    disk_bytes: row.diskBytes,
    memory_bytes: row.memoryBytes,
    created_at_ms: row.createdAtMs,
  };
}

function restoreFromRow(row: Schema["checkpoint_restores"]): RestoreRow {
  return {
    spriteId: row.sprite_id,
    targetId: row.target_id,
    previousId: row.previous_id,
    phase: row.phase as RestoreRow["phase"],
    withMemory: row.memory !== 0,
    startedAtMs: row.started_at_ms,
  };
}
