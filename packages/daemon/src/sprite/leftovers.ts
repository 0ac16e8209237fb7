/**
 * What a failed piece of work made and could not take back, for example because the disk is full. It is tried again
 * until it is done; what is left when the daemon ends, the next start frees from the records.
 */
import { ignore, type Logger, sleep } from "@sprited/base";

/** Pause before the next attempt, ms. */
const RETRY_MS = 5_000;

export class Leftovers {
  readonly #logger: Logger;
  readonly #retryMs: number;
  readonly #closed = new AbortController();

  constructor(options: { logger: Logger; retryMs?: number | undefined }) {
    this.#logger = options.logger;
    this.#retryMs = options.retryMs ?? RETRY_MS;
  }

  /** Runs `free`, which may be repeated; never rejects. A failure is retried in the background. */
  async takeBack(what: string, free: () => Promise<void>): Promise<void> {
    try {
      await free();
    } catch (error) {
      this.#logger.warn({ event: "sprite.leftover", what, err: error }, "something could not be taken back yet");
      void this.#retry(what, free);
    }
  }

  /** Ends the attempts. */
  close(): void {
    this.#closed.abort();
  }

  async #retry(what: string, free: () => Promise<void>): Promise<void> {
    const { signal } = this.#closed;
    for (;;) {
      await sleep(this.#retryMs, { signal, ref: false }).catch(ignore("closed"));
      if (signal.aborted) return;
      try {
        await free();
        this.#logger.info({ event: "sprite.leftover", outcome: "ok", what }, "taken back");
        return;
      } catch {
        // The first failure is logged; the next attempt follows.
      }
    }
  }
}
