/**
 * The sprite's state machine (docs/spec/lifecycle.md): pure, total, without I/O.
 *
 * ```
 * cold ──wake──▶ waking ──▶ running ──▶ pausing ──▶ paused ──▶ hibernating ──▶ hibernated
 *   ▲              ▲           ▲                      │ ▲           │ taken back     │
 *   │              │           └────── resuming ◀─────┘ └───────────┘                │
 *   │              └───────────────────── wake ──────────────────────────────────────┘
 *   └── stopping ◀── running, paused            any state whose VM is gone ──▶ cold
 * ```
 *
 * `admit` says what a request meets in a state; `next` says what an event makes of a state.
 * Each state holds exactly the data that is valid in it. Events carry the incarnation they
 * belong to; events of another incarnation are ignored (LIFE-5).
 */
import type { ErrorCode } from "@sprited/protocol/errors";
import type { MemoryRecord } from "../machine/index.ts";

export type SpriteState =
  | { kind: "creating" }
  /** `lost`: why the memory of the life before could not be kept; left out when it was ended on request. */
  | { kind: "cold"; lost?: string | undefined }
  /** With `memory`: the VM resumes it and the life goes on; else a new life begins. */
  | { kind: "waking"; incarnation: string; life: string; memory?: MemoryRecord | undefined }
  | { kind: "running"; incarnation: string; life: string }
  | { kind: "pausing"; incarnation: string; life: string }
  | { kind: "paused"; incarnation: string; life: string; sinceMs: number }
  | { kind: "resuming"; incarnation: string; life: string }
  | { kind: "hibernating"; incarnation: string; life: string }
  /** The memory is in its files. `incarnation`: the VM that it was saved from and that still has to be ended. */
  | { kind: "hibernated"; incarnation: string | undefined; life: string; memory: MemoryRecord }
  | { kind: "stopping"; incarnation: string; life: string }
  | { kind: "deleting"; incarnation: string | undefined }
  | { kind: "failed"; reason: string; incarnation: string | undefined };

export type SpriteRequest = "wake" | "pause" | "hibernate" | "stop" | "delete";

export type SpriteEvent =
  | { type: "created" }
  | { type: "wake_begun"; incarnation: string }
  | { type: "woken"; incarnation: string }
  /** `memoryKept`: nothing of the memory was used up, the next wake may try again. */
  | { type: "wake_failed"; incarnation: string; memoryKept: boolean; reason?: string | undefined }
  | { type: "pause_begun"; incarnation: string }
  | { type: "paused"; incarnation: string; atMs: number }
  | { type: "resume_begun"; incarnation: string }
  | { type: "hibernate_begun"; incarnation: string }
  | { type: "hibernated"; incarnation: string; memory: MemoryRecord }
  | { type: "stop_begun"; incarnation: string }
  /** `reason`: why the VM ended; left out when that was asked for. */
  | { type: "vm_gone"; incarnation: string; reason?: string | undefined }
  /** The memory of a hibernated sprite is given up. */
  | { type: "memory_dropped"; reason?: string | undefined }
  /** Another memory was put in place of a cold sprite's none; a life begins with it. */
  | { type: "memory_placed"; life: string; memory: MemoryRecord }
  | { type: "delete_begun" }
  | { type: "broken"; reason: string };

/** States whose sprite is cold when its VM is gone. */
const LOST_WITH_VM: ReadonlySet<SpriteState["kind"]> = new Set(["running", "pausing", "paused", "resuming", "hibernating"]);

/** What a request meets: start the transition, nothing to do, or a refusal. */
export type Admission = { kind: "act" } | { kind: "done" } | { kind: "deny"; code: ErrorCode };

/** Whether `request` may begin now. Requests run one after another, so transient states are seen only after a crash. */
export function admit(state: SpriteState, request: SpriteRequest): Admission {
  switch (state.kind) {
    case "creating":
      return { kind: "deny", code: "sprite_not_found" };
    case "deleting":
      return request === "delete" ? { kind: "act" } : { kind: "deny", code: "sprite_not_found" };
    case "failed":
      return request === "delete" ? { kind: "act" } : { kind: "deny", code: "sprite_failed" };
    case "cold":
      return request === "wake" || request === "delete" ? { kind: "act" } : { kind: "done" };
    case "running":
      return request === "wake" ? { kind: "done" } : { kind: "act" };
    case "paused":
      return request === "pause" ? { kind: "done" } : { kind: "act" };
    case "hibernated":
      return request === "pause" || request === "hibernate" ? { kind: "done" } : { kind: "act" };
    case "waking":
    case "pausing":
    case "resuming":
    case "hibernating":
    case "stopping":
      return { kind: "act" };
  }
}

/** The state after `event`; the same object when the event does not apply. */
export function next(state: SpriteState, event: SpriteEvent): SpriteState {
  switch (event.type) {
    case "broken":
      return { kind: "failed", reason: event.reason, incarnation: incarnationOf(state) };
    case "delete_begun":
      return state.kind === "creating" ? state : { kind: "deleting", incarnation: incarnationOf(state) };
    case "created":
      return state.kind === "creating" ? { kind: "cold" } : state;
    case "wake_begun":
      return beginWake(state, event.incarnation);
    case "memory_dropped":
      return state.kind === "hibernated" && state.incarnation === undefined ? cold(event.reason) : state;
    case "memory_placed":
      return state.kind === "cold" ? { kind: "hibernated", incarnation: undefined, life: event.life, memory: event.memory } : state;
  }
  if (incarnationOf(state) !== event.incarnation) return state;
  return event.type === "vm_gone" ? loseVm(state, event.reason) : step(state, event);
}

type Step = Exclude<Extract<SpriteEvent, { incarnation: string }>, { type: "wake_begun" | "vm_gone" }>;

/** Steps of a state whose VM exists, of that VM's own events. */
function step(state: SpriteState, event: Step): SpriteState {
  const { kind } = state;
  switch (event.type) {
    case "woken":
      return kind === "waking" || kind === "resuming" ? { kind: "running", incarnation: event.incarnation, life: state.life } : state;
    case "wake_failed":
      if (kind !== "waking") return state;
      if (state.memory === undefined || !event.memoryKept) return cold(event.reason);
      return { kind: "hibernated", incarnation: undefined, life: state.life, memory: state.memory };
    case "pause_begun":
      return kind === "running" ? { kind: "pausing", incarnation: event.incarnation, life: state.life } : state;
    case "paused":
      return kind === "pausing" || kind === "resuming" || kind === "hibernating"
        ? { kind: "paused", incarnation: event.incarnation, life: state.life, sinceMs: event.atMs }
        : state;
    case "resume_begun":
      return kind === "paused" || kind === "pausing" ? { kind: "resuming", incarnation: event.incarnation, life: state.life } : state;
    case "hibernate_begun":
      return kind === "paused" ? { kind: "hibernating", incarnation: event.incarnation, life: state.life } : state;
    case "hibernated":
      return kind === "hibernating"
        ? { kind: "hibernated", incarnation: event.incarnation, life: state.life, memory: event.memory }
        : state;
    case "stop_begun":
      return kind === "running" ? { kind: "stopping", incarnation: event.incarnation, life: state.life } : state;
  }
}

function beginWake(state: SpriteState, incarnation: string): SpriteState {
  if (state.kind === "cold") return { kind: "waking", incarnation, life: incarnation };
  if (state.kind !== "hibernated" || state.incarnation !== undefined) return state;
  return { kind: "waking", incarnation, life: state.life, memory: state.memory };
}

function loseVm(state: SpriteState, reason: string | undefined): SpriteState {
  if (state.kind === "deleting") return { kind: "deleting", incarnation: undefined };
  if (state.kind === "failed" || state.kind === "hibernated") return { ...state, incarnation: undefined };
  return cold(reason);
}

function cold(lost: string | undefined): SpriteState {
  return lost === undefined ? { kind: "cold" } : { kind: "cold", lost };
}

/** The VM run that a state speaks of. */
export function incarnationOf(state: SpriteState): string | undefined {
  switch (state.kind) {
    case "creating":
    case "cold":
      return undefined;
    default:
      return state.incarnation;
  }
}

/**
 * Whether both states speak of one VM with which they are lost: what the host's power takes leaves
 * the same behind in either, so the change from one to the other need not outlive it (LIFE-31).
 */
export function isLostAlike(before: SpriteState, after: SpriteState): boolean {
  const incarnation = incarnationOf(after);
  return incarnation !== undefined && incarnation === incarnationOf(before) && [before, after].every(({ kind }) => LOST_WITH_VM.has(kind));
}

/** Whether a VM runs under the state, or is about to. */
export function hasMachine(state: SpriteState): boolean {
  return state.kind === "waking" || state.kind === "running" || state.kind === "resuming" || state.kind === "pausing";
}

/** The life whose memory is kept in a state, in a VM or in files. */
export function lifeOf(state: SpriteState): string | undefined {
  switch (state.kind) {
    case "creating":
    case "cold":
    case "deleting":
    case "failed":
      return undefined;
    default:
      return state.life;
  }
}
