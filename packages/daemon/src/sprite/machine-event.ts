/** What becomes of sprites' machines, as those hear it who count. Data only. */

/** What a sprite woke from: vCPUs that stood still, a memory in files, or its disk alone. */
export type WakeKind = "paused" | "hibernated" | "cold";

export type MachineEvent =
  /** `wake`: how it came back in the end; a memory that could not be resumed makes it `cold`. */
  | { kind: "woken"; wake: WakeKind; durationMs: number }
  | { kind: "wake_failed"; wake: WakeKind }
  /** How deep it sleeps now; `cold`: it was stopped. */
  | { kind: "slept"; depth: WakeKind }
  /** The memory was given up although nobody asked for that. */
  | { kind: "memory_lost" };
