/**
 * Puts idle sprites to sleep: paused after their idle time, hibernated when they stay paused. Reads
 * what keeps sprites awake (`Activities`) and asks their drivers; decides nothing by itself that a
 * request could not still undo (LIFE-15).
 */
import { ignore, type Logger, sleep } from "@sprited/base";
import type { Activities } from "./activity.ts";
import type { SpriteDriver } from "./driver/index.ts";
import type { SpriteState } from "./lifecycle.ts";

/** How often sprites are looked at, ms. */
const LOOK_EVERY_MS = 500;
/** Pause after a sleep that failed, ms. */
const RETRY_AFTER_MS = 60_000;

export interface IdleSettings {
  /** Idle time of sprites that have none of their own, ms; 0: they never sleep by themselves. */
  idleMs: number;
  /** Time paused until the memory goes into a file, ms; 0: it stays where it is. */
  hibernateAfterMs: number;
}

/** What is known of a sprite when it is looked at. */
export interface IdleFacts {
  state: SpriteState;
  idleMs: number;
  hibernateAfterMs: number;
  isHeld: boolean;
  /** When it was last active, or became awake without anything having used it yet, ms. */
  lastActiveMs: number;
  nowMs: number;
}

/** How deep a sprite is to sleep; undefined: it stays as it is. Pure. */
export function idleDepth(facts: IdleFacts): "paused" | "hibernated" | undefined {
  const { state, idleMs, hibernateAfterMs, nowMs } = facts;
  if (facts.isHeld || idleMs === 0) return undefined;
  if (state.kind === "running") return nowMs - facts.lastActiveMs >= idleMs ? "paused" : undefined;
  if (state.kind !== "paused" || hibernateAfterMs === 0) return undefined;
  return nowMs - state.sinceMs >= hibernateAfterMs ? "hibernated" : undefined;
}

/** One sprite as the watch sees it. */
export interface IdleEntry {
  id: string;
  /** Its own idle time, ms; undefined: the default. */
  idleMs: number | undefined;
  driver: SpriteDriver;
}

export interface IdleWatchOptions {
  entries(): readonly IdleEntry[];
  activities: Activities;
  settings: IdleSettings;
  logger: Logger;
  nowMs(): number;
}

export class IdleWatch {
  readonly #options: IdleWatchOptions;
  readonly #closed = new AbortController();
  /** Sprites that are falling asleep. */
  readonly #falling = new Map<string, Promise<void>>();
  readonly #retryAtMs = new Map<string, number>();
  /** Since when a sprite is seen awake that nothing has used. */
  readonly #seenMs = new Map<string, number>();
  #looking: Promise<void> | undefined;

  constructor(options: IdleWatchOptions) {
    this.#options = options;
  }

  start(): void {
    this.#looking = this.#lookForEver().catch((err: unknown) => {
      this.#options.logger.error({ event: "sprite.idle", err }, "idle sprites are no longer put to sleep; restart the daemon");
    });
  }

  /** Resolves when nothing falls asleep any more. */
  async close(): Promise<void> {
    this.#closed.abort();
    await this.#looking;
    await Promise.all(this.#falling.values());
  }

  async #lookForEver(): Promise<void> {
    const { signal } = this.#closed;
    while (!signal.aborted) {
      this.look();
      await sleep(LOOK_EVERY_MS, { signal, ref: false }).catch(ignore("closed"));
    }
  }

  /** Looks at every sprite once. */
  look(): void {
    const { entries, nowMs } = this.#options;
    for (const entry of entries()) {
      if (this.#falling.has(entry.id) || nowMs() < (this.#retryAtMs.get(entry.id) ?? 0)) continue;
      const depth = idleDepth(this.#facts(entry));
      if (depth !== undefined) this.#fall(entry, depth);
    }
  }

  #fall(entry: IdleEntry, depth: "paused" | "hibernated"): void {
    const { logger, nowMs } = this.#options;
    const isIdle = (): boolean => !this.#closed.signal.aborted && (idleDepth(this.#facts(entry)) !== undefined || this.#isBetween(entry));
    const work = entry.driver
      .sleepIfIdle({ depth, isIdle })
      .catch((error: unknown) => {
        this.#retryAtMs.set(entry.id, nowMs() + RETRY_AFTER_MS);
        logger.warn(
          { event: "sprite.idle", outcome: "failed", spriteId: entry.id, depth, err: error },
          "could not put the sprite to sleep",
        );
      })
      .finally(() => this.#falling.delete(entry.id));
    this.#falling.set(entry.id, work);
  }

  /** In the steps of a sleep the state is neither running nor paused; then only a hold stops it. */
  #isBetween({ id, driver }: IdleEntry): boolean {
    return !["running", "paused"].includes(driver.state.kind) && this.#options.activities.holders(id).length === 0;
  }

  #facts({ id, idleMs, driver }: IdleEntry): IdleFacts {
    const { activities, settings, nowMs } = this.#options;
    const { state } = driver;
    if (state.kind !== "running") this.#seenMs.delete(id);
    else if (!this.#seenMs.has(id)) this.#seenMs.set(id, nowMs());
    return {
      state,
      idleMs: idleMs ?? settings.idleMs,
      hibernateAfterMs: settings.hibernateAfterMs,
      isHeld: activities.holders(id).length > 0,
      lastActiveMs: Math.max(activities.lastActiveMs(id) ?? 0, this.#seenMs.get(id) ?? 0),
      nowMs: nowMs(),
    };
  }
}
