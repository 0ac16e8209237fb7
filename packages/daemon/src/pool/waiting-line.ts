/**
 * Claims that wait for a spare, first come first served (POOL-7).
 *
 * Invariants: only the first who still waits is served; whoever gave up is never served.
 */
import { withDeadline } from "@sprited/base";

interface Waiter<T> {
  /** Gives something when there is something for this waiter. */
  serve: () => T | undefined;
  resolve: (value: T) => void;
  reject: (error: unknown) => void;
}

export class WaitingLine<T> {
  #waiting: Waiter<T>[] = [];

  get length(): number {
    return this.#waiting.length;
  }

  /**
   * Waits until `serve` gives something; what it throws is the outcome. Rejects with
   * `DeadlineError` when the time is over, with the signal's reason when the caller left.
   */
  async join(serve: () => T | undefined, options: { timeoutMs: number; signal: AbortSignal | undefined }): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const waiter: Waiter<T> = { serve, resolve, reject };
    this.#waiting.push(waiter);
    try {
      return await withDeadline("a ready sprite", options, () => promise);
    } finally {
      this.#leave(waiter);
    }
  }

  /** Serves those in front for as long as there is something for them. */
  advance(): void {
    for (let first = this.#waiting[0]; first; first = this.#waiting[0]) {
      try {
        const value = first.serve();
        if (value === undefined) return;
        first.resolve(value);
      } catch (error) {
        first.reject(error);
      }
      this.#leave(first);
    }
  }

  /** Nobody will be served any more. */
  close(error: Error): void {
    for (const waiter of this.#waiting) waiter.reject(error);
    this.#waiting = [];
  }

  #leave(waiter: Waiter<T>): void {
    this.#waiting = this.#waiting.filter((one) => one !== waiter);
  }
}
