/**
 * What keeps sprites awake. Features take a hold for the time in which something of theirs must
 * not be put to sleep, and touch it when a detached thing shows life. Nothing here decides when
 * a sprite sleeps; the sprite's idle timer reads it.
 *
 * Invariants: a hold counts until it is released, exactly once; a touch counts as activity at
 * its instant; nothing is kept of a sprite after `forget`.
 */

/** Kinds of activity, as `why` names them. */
export type ActivityKind = "session" | "job" | "connection" | "request" | "file" | "operation";

export interface Holder {
  kind: ActivityKind;
  /** Which one, for people: a session's id, a port. */
  detail: string;
  sinceMs: number;
}

/** A reason to stay awake. Disposing releases it. */
export interface Hold extends Disposable {
  release(): void;
}

export class Activities {
  readonly #bySprite = new Map<string, { holders: Set<Holder>; lastMs: number }>();
  readonly #listeners = new Set<(spriteId: string) => void>();
  readonly #nowMs: () => number;

  constructor(options: { nowMs: () => number }) {
    this.#nowMs = options.nowMs;
  }

  /** Keeps the sprite awake until released. */
  hold(spriteId: string, kind: ActivityKind, detail: string): Hold {
    const entry = this.#entry(spriteId);
    const holder: Holder = { kind, detail, sinceMs: this.#nowMs() };
    entry.holders.add(holder);
    entry.lastMs = this.#nowMs();
    this.#announce(spriteId);
    const release = (): void => {
      if (!entry.holders.delete(holder)) return;
      entry.lastMs = this.#nowMs();
      this.#announce(spriteId);
    };
    return { release, [Symbol.dispose]: release };
  }

  /** Something happened that counts as activity now and does not last. */
  touch(spriteId: string): void {
    this.#entry(spriteId).lastMs = this.#nowMs();
  }

  /** What holds the sprite awake now, oldest first. */
  holders(spriteId: string): Holder[] {
    return [...(this.#bySprite.get(spriteId)?.holders ?? [])];
  }

  /** When the sprite was last active, ms; now while anything holds it; undefined when never. */
  lastActiveMs(spriteId: string): number | undefined {
    const entry = this.#bySprite.get(spriteId);
    return entry && (entry.holders.size > 0 ? this.#nowMs() : entry.lastMs);
  }

  /** Called whenever a sprite's set of holders changes. Returns how to unsubscribe. */
  subscribe(listener: (spriteId: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The sprite is gone. */
  forget(spriteId: string): void {
    this.#bySprite.delete(spriteId);
  }

  #entry(spriteId: string): { holders: Set<Holder>; lastMs: number } {
    let entry = this.#bySprite.get(spriteId);
    if (!entry) this.#bySprite.set(spriteId, (entry = { holders: new Set(), lastMs: this.#nowMs() }));
    return entry;
  }

  #announce(spriteId: string): void {
    for (const listener of this.#listeners) listener(spriteId);
  }
}
