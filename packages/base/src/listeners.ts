/**
 * Who wants to hear of something, and telling them. Invariants: told at once, in the order they came;
 * whoever left is not told again. Listeners must not throw: what they are told of has happened.
 */
export class Listeners<Event extends unknown[]> {
  readonly #listeners = new Set<(...event: Event) => void>();

  /** Returns how to leave. */
  add(listener: (...event: Event) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  tell(...event: Event): void {
    for (const listener of this.#listeners) listener(...event);
  }

  /** For events that cost something to describe. */
  get isEmpty(): boolean {
    return this.#listeners.size === 0;
  }
}
