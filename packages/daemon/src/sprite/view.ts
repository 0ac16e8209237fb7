/** State → public words. Nothing else derives a status from a state. */
import type { SpriteState } from "./lifecycle.ts";
import type { SpriteStatus } from "./sprite.ts";

export function statusOf(state: SpriteState): SpriteStatus {
  switch (state.kind) {
    case "running":
    case "pausing":
    case "stopping":
      return "running";
    case "paused":
    case "resuming":
    case "hibernating":
    case "hibernated":
      return "warm";
    case "waking":
      return state.memory === undefined ? "cold" : "warm";
    case "creating":
    case "cold":
    case "deleting":
    case "failed":
      return "cold";
  }
}

export function failureOf(state: SpriteState): string | undefined {
  return state.kind === "failed" ? state.reason : undefined;
}

/** Why the memory of a sprite that is cold now could not be kept. */
export function memoryLostOf(state: SpriteState): string | undefined {
  return state.kind === "cold" ? state.lost : undefined;
}
