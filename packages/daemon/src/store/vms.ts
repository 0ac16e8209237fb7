/** Queries on VM runs: what a restarted daemon needs to find every VM again. */
import type { Database } from "./database.ts";

export interface VmRecord {
  incarnation: string;
  spriteId: string;
  /** Directory of sockets, pid file and spec. */
  directory: string;
  /** Network slot; undefined where the host has no taps. */
  slotIndex: number | undefined;
  /** Link key. Secret. */
  key: Uint8Array;
  createdAtMs: number;
}

export function loadVms(database: Database): VmRecord[] {
  return database.all(database.query.selectFrom("vms").selectAll()).map((row) => ({
    incarnation: row.incarnation,
    spriteId: row.sprite_id,
    directory: row.directory,
    slotIndex: row.slot_index ?? undefined,
    key: row.link_key,
    createdAtMs: row.created_at_ms,
  }));
}

export function insertVm(database: Database, vm: VmRecord): void {
  database.run(
    database.query.insertInto("vms").values({
      incarnation: vm.incarnation,
      sprite_id: vm.spriteId,
      directory: vm.directory,
      slot_index: vm.slotIndex ?? null,
      link_key: vm.key,
      created_at_ms: vm.createdAtMs,
    }),
  );
}

/** A missing one is fine. */
export function deleteVm(database: Database, incarnation: string): void {
  database.run(database.query.deleteFrom("vms").where("incarnation", "=", incarnation));
}
