/** Asks a running sprite's agent how it is; never wakes one. */
import type { Machine } from "../machine/index.ts";
import type { SpriteCheck } from "./sprite.ts";

/** An agent that takes longer is unhealthy, ms. */
const CHECK_TIMEOUT_MS = 10_000;

export async function checkMachine(machine: Machine | undefined, failure: string | undefined): Promise<SpriteCheck> {
  const startedMs = performance.now();
  const result = (status: SpriteCheck["status"], reason: string | undefined): SpriteCheck => ({
    status,
    reason,
    elapsedMs: Math.round(performance.now() - startedMs),
  });
  if (failure !== undefined) return result("error", failure);
  if (!machine) return result("hibernated", "the sprite sleeps; any request wakes it");
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
