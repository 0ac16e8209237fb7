/**
 * The sprite's state machine (docs/spec/lifecycle.md): pure, total, without I/O.
 *
 * `admit` says what a request meets in a state; `next` says what an event makes of a state.
 * Each state holds exactly the data that is valid in it. Events carry the incarnation they
 * belong to; events of another incarnation are ignored (LIFE-5).
 */
import type { ErrorCode } from "@sprited/protocol/errors";

export type SpriteState =
  | { kind: "creating" }
  | { kind: "cold" }
  | { kind: "waking"; incarnation: string }
  | { kind: "running"; incarnation: string }
  | { kind: "stopping"; incarnation: string }
  | { kind: "deleting"; incarnation: string | undefined }
  | { kind: "failed"; reason: string; incarnation: string | undefined };

export type SpriteRequest = "wake" | "stop" | "delete";

export type SpriteEvent =
  | { type: "created" }
  | { type: "wake_begun"; incarnation: string }
  | { type: "woken"; incarnation: string }
  | { type: "wake_failed"; incarnation: string }
  | { type: "stop_begun"; incarnation: string }
  | { type: "vm_gone"; incarnation: string }
  | { type: "delete_begun" }
  | { type: "broken"; reason: string };

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
      return request === "stop" ? { kind: "done" } : { kind: "act" };
    case "running":
      return request === "wake" ? { kind: "done" } : { kind: "act" };
    case "waking":
    case "stopping":
      return { kind: "act" };
  }
}

/** The state after `event`; the same object when the event does not apply. */
export function next(state: SpriteState, event: SpriteEvent): SpriteState {
  if (event.type === "broken") return { kind: "failed", reason: event.reason, incarnation: incarnationOf(state) };
  if (event.type === "delete_begun") {
    return state.kind === "creating" ? state : { kind: "deleting", incarnation: incarnationOf(state) };
  }
  if (event.type === "created") return state.kind === "creating" ? { kind: "cold" } : state;
  if (event.type === "wake_begun") return state.kind === "cold" ? { kind: "waking", incarnation: event.incarnation } : state;
  if (incarnationOf(state) !== event.incarnation) return state;
  switch (event.type) {
    case "woken":
      return state.kind === "waking" ? { kind: "running", incarnation: event.incarnation } : state;
    case "wake_failed":
      return state.kind === "waking" ? { kind: "cold" } : state;
    case "stop_begun":
      return state.kind === "running" ? { kind: "stopping", incarnation: event.incarnation } : state;
    case "vm_gone":
      if (state.kind === "deleting") return { kind: "deleting", incarnation: undefined };
      if (state.kind === "failed") return { ...state, incarnation: undefined };
      return { kind: "cold" };
  }
}

/** The VM run that a state speaks of. */
export function incarnationOf(state: SpriteState): string | undefined {
  switch (state.kind) {
    case "waking":
    case "running":
    case "stopping":
    case "deleting":
    case "failed":
      return state.incarnation;
    case "creating":
    case "cold":
      return undefined;
  }
}
