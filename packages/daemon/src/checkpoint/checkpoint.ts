/**
 * A checkpoint: a save point of a sprite's disk, with its running memory when asked for. Rules:
 * docs/spec/checkpoints.md.
 *
 * ```
 *            copied, durable             check passed
 * creating ─────────────────► verifying ──────────────► complete
 *    │ failed                     └──── check failed ──► failed
 *    ▼
 * (nothing)
 * ```
 */
import type { CheckpointRow } from "../store/index.ts";

/** A checkpoint with its place in the tree of its sprite. */
export interface CheckpointView extends CheckpointRow {
  /** Ids of the checkpoints it came from, nearest first. */
  history: string[];
  /** Whether the sprite's present state came from it. */
  isCurrent: boolean;
}

/** What is wrong with a checkpoint; empty while nothing is. */
export type CheckpointHealth = "" | "mount_failed" | "damaged" | "resume_failed" | "unchecked";

export interface CreateCheckpoint {
  comment: string;
  /** Whether the running processes are kept too. */
  memory: boolean;
}

/** The sprite's checkpoints and what its present state came from. */
export interface CheckpointList {
  /** Newest first. */
  checkpoints: CheckpointView[];
  /** Ids that the present state came from, nearest first. */
  currentHistory: string[];
  /** When the sprite itself was made: the time of a present state that came from no checkpoint, ms. */
  createdAtMs: number;
}
