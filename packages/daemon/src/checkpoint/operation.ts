/**
 * Work with progress that outlives whoever watches it: a client that leaves ends its watching,
 * never the work.
 */
import { ignore } from "@sprited/base";

export type OperationEvent<R> =
  | { type: "info"; text: string; atMs: number }
  | { type: "complete"; text: string; atMs: number; result: R }
  | { type: "error"; error: unknown; atMs: number };

/** What the work ends with. */
export interface Outcome<R> {
  /** One line for people. */
  text: string;
  result: R;
}

export class Operation<R> {
  /** Resolves or rejects with the work's outcome. */
  readonly done: Promise<R>;
  readonly #events: OperationEvent<R>[] = [];
  #changed = Promise.withResolvers<void>();

  /** Begins `work` at once; `say` announces a step of it. */
  constructor(work: (say: (text: string) => void) => Promise<Outcome<R>>) {
    this.done = work((text) => this.#add({ type: "info", text, atMs: Date.now() })).then(
      ({ text, result }) => {
        this.#add({ type: "complete", text, atMs: Date.now(), result });
        return result;
      },
      (error: unknown) => {
        this.#add({ type: "error", error, atMs: Date.now() });
        throw error;
      },
    );
    this.done.catch(ignore("told by the last event"));
  }

  /** Every event from the first on; ends after `complete` or `error`. */
  async *events(): AsyncGenerator<OperationEvent<R>, void, void> {
    for (let next = 0; ; next += 1) {
      while (next >= this.#events.length) await this.#changed.promise;
      const event = this.#events[next] as OperationEvent<R>;
      yield event;
      if (event.type !== "info") return;
    }
  }

  #add(event: OperationEvent<R>): void {
    this.#events.push(event);
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
