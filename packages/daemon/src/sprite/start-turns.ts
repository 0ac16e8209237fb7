/**
 * Turns for starting machines (LIFE-32). A start is work for the host's CPUs: many at once take as
 * long together as one after another, and each of them as long as all. In turn the first are done
 * soon, and none runs into its deadline because of the others.
 */
import { type Logger } from "@sprited/base";
import pLimit from "p-limit";
import { untilAborted } from "./life.ts";

/** A wait that is worth a line in the log, ms. */
const LONG_WAIT_MS = 1_000;

export interface StartTurnsOptions {
  /** Machines that start at the same time. */
  parallel: number;
  logger: Logger;
}

export class StartTurns {
  readonly #run: ReturnType<typeof pLimit>;
  readonly #logger: Logger;

  constructor({ parallel, logger }: StartTurnsOptions) {
    this.#run = pLimit(parallel);
    this.#logger = logger;
  }

  /** Resolves in the order of asking; the turn lasts until it is disposed. Rejects with the signal's reason and leaves the queue. */
  async take(options: { signal: AbortSignal }): Promise<Disposable> {
    const begun = Promise.withResolvers<void>();
    const over = Promise.withResolvers<void>();
    const askedMs = performance.now();
    void this.#run(async () => {
      begun.resolve();
      await over.promise;
    });
    try {
      await untilAborted(begun.promise, options.signal);
    } catch (error) {
      over.resolve();
      throw error;
    }
    const waitedMs = Math.round(performance.now() - askedMs);
    if (waitedMs >= LONG_WAIT_MS)
      this.#logger.info({ event: "sprite.start_turn", waitedMs, waiting: this.#run.pendingCount }, "many starts");
    return { [Symbol.dispose]: () => over.resolve() };
  }
}
