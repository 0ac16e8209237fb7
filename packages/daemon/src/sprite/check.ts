/** Asks a running sprite's agent how it is; never wakes one. */
import type { Machine } from "../machine/index.ts";
import type { SpriteState } from "./lifecycle.ts";
import type { SpriteCheck } from "./sprite.ts";
import { failureOf, memoryLostOf } from "./view.ts";

/** An agent that takes longer is unhealthy, ms. */
const CHECK_TIMEOUT_MS = 10_000;

export async function checkMachine(machine: Machine | undefined, state: SpriteState): Promise<SpriteCheck> {
  const startedMs = performance.now();
  const result = (status: SpriteCheck["status"], reason: string | undefined): SpriteCheck => ({
    status,
    reason,
    elapsedMs: Math.round(performance.now() - startedMs),
  });
  const failure = failureOf(state);
  if (failure !== undefined) return result("error", failure);
  if (!machine) return result("hibernated", asleep(state));
  try {
    const signal = AbortSignal.timeout(CHECK_TIMEOUT_MS);
    const link = await machine.link({ signal });
    const status = await link.status({ signal, timeoutMs: CHECK_TIMEOUT_MS });
    if (status.inner === "failed") return result("unhealthy", status.inner_error ?? "the sprite's Linux did not start");
    return result("healthy", undefined);
  } catch {
    return result("unhealthy", "the sprite's agent does not answer; restart the sprite");
  }
}

function asleep(state: SpriteState): string {
  if (state.kind === "hibernated") return "the sprite sleeps with its memory in a file; any request wakes it";
  if (state.kind === "paused") return "the sprite is paused with its memory; any request wakes it";
  const lost = memoryLostOf(state);
  const cold = "the sprite sleeps; any request wakes it";
  return lost === undefined ? cold : `${cold}; its processes were lost: ${lost}`;
}
