/** State → public words. Nothing else derives a status from a state. */
import type { SpriteState } from "./lifecycle.ts";
import type { SpriteStatus } from "./sprite.ts";

export function statusOf(state: SpriteState): SpriteStatus {
  switch (state.kind) {
    case "running":
    case "stopping":
      return "running";
    case "creating":
    case "cold":
    case "waking":
    case "deleting":
    case "failed":
      return "cold";
  }
}

export function failureOf(state: SpriteState): string | undefined {
  return state.kind === "failed" ? state.reason : undefined;
}
