/** The tree of a sprite's checkpoints: ancestry, and which automatic ones may go. Pure. */
import type { CheckpointRow } from "../store/index.ts";

type Node = Pick<CheckpointRow, "id" | "parentId">;

/** Ids from `id`'s parent up to the root, nearest first. A broken or circular chain ends early. */
export function historyOf(nodes: readonly Node[], id: string | undefined): string[] {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const history: string[] = [];
  const seen = new Set<string>();
  for (let at = id === undefined ? undefined : byId.get(id)?.parentId; at !== undefined && byId.has(at) && !seen.has(at);) {
    seen.add(at);
    history.push(at);
    at = byId.get(at)?.parentId;
  }
  return history;
}

/** `id` and everything it came from, nearest first. */
export function lineOf(nodes: readonly Node[], id: string | undefined): string[] {
  return id === undefined || !nodes.some((node) => node.id === id) ? [] : [id, ...historyOf(nodes, id)];
}

export interface Retention {
  /** Automatic checkpoints that stay. */
  keep: number;
  /** What the present state came from. */
  current: string | undefined;
  /** Whether something else needs a checkpoint. */
  isUsed(id: string): boolean;
}

/**
 * Automatic checkpoints that may go, oldest first: those beyond the newest `keep`, except what is
 * in use, in the making, or current. At least the newest always stays: it undoes the last restore.
 */
export function prunable(rows: readonly CheckpointRow[], retention: Retention): string[] {
  const automatic = rows.filter((row) => row.isAuto && row.state !== "creating").sort((a, b) => b.position - a.position);
  return automatic
    .slice(Math.max(1, retention.keep))
    .filter((row) => row.id !== retention.current && !retention.isUsed(row.id))
    .map((row) => row.id)
    .reverse();
}
