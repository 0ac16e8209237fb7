/**
 * Tells watchers which ports of the sprite are listened on (PORTS-1..3). One scan serves all of
 * them, and while there are none nothing runs at all.
 *
 * Invariants: a watcher hears every change once, against what it was told before; one that does
 * not read is told the sum of what it missed.
 */
import { ignore, sleep } from "@sprited/base";
import type { PortsLine } from "@sprited/protocol/guest";
import { changesBetween, type Listeners, NO_LISTENERS, type PortScan } from "./port-scan.ts";

/** Pause between two looks while somebody watches, ms. */
const EVERY_MS = 500;

/** Who watches. */
export interface PortWatcher {
  /** Whether it takes a line now. */
  readonly isReady: boolean;
  tell(line: PortsLine): void;
}

export class PortWatch {
  readonly #scan: PortScan;
  readonly #watchers = new Map<PortWatcher, Listeners | undefined>();
  #running: AbortController | undefined;

  constructor(scan: PortScan) {
    this.#scan = scan;
  }

  /** Tells `watcher` what listens now, then every change. Returns how to stop. */
  watch(watcher: PortWatcher): () => void {
    this.#watchers.set(watcher, undefined);
    // Begins anew, so that the first line does not wait for the pause.
    this.#running?.abort();
    this.#running = new AbortController();
    this.#run(this.#running.signal).catch(ignore("nobody watches any more, or a newcomer began it anew"));
    return () => {
      this.#watchers.delete(watcher);
      if (this.#watchers.size === 0) this.#running?.abort();
    };
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const now = await this.#scan.scan();
      if (signal.aborted) return;
      for (const [watcher, told] of this.#watchers) {
        if (!watcher.isReady) continue;
        const changes = changesBetween(told ?? NO_LISTENERS, now);
        this.#watchers.set(watcher, now);
        if (told === undefined || changes.opened.length > 0 || changes.closed.length > 0) watcher.tell(changes);
      }
      await sleep(EVERY_MS, { signal });
    }
  }
}
