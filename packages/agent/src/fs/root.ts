/**
 * The directory that is `/` for file calls, as long as the environment it belongs to lives. It is
 * closed only when no call uses it any more: a number that another file gets meanwhile would lead
 * a call out of the user's Linux.
 */
import fs from "node:fs";

export interface Root {
  readonly fd: number;
}

interface Held extends Root {
  users: number;
  isLeft: boolean;
}

export class FileRoot {
  #current: Held | undefined;
  readonly #listeners = new Set<() => Promise<void>>();

  /** Takes over the descriptor of a directory. */
  enter(fd: number): void {
    this.#current = { fd, users: 0, isLeft: false };
  }

  /** Ends every call in it; resolves when nothing of it is open. Idempotent. */
  async leave(): Promise<void> {
    const left = this.#current;
    this.#current = undefined;
    if (!left) return;
    left.isLeft = true;
    const ended = [...this.#listeners].map((end) => end());
    this.#closeUnused(left);
    await Promise.all(ended);
  }

  /** Takes the root for a call; undefined when there is none. Give it back with `release`. */
  acquire(): Root | undefined {
    if (this.#current) this.#current.users += 1;
    return this.#current;
  }

  release(root: Root): void {
    const held = root as Held;
    held.users -= 1;
    this.#closeUnused(held);
  }

  /** `end` is called when the root is left, and resolves when nothing uses it any more. */
  onLeave(end: () => Promise<void>): void {
    this.#listeners.add(end);
  }

  #closeUnused(held: Held): void {
    if (held.isLeft && held.users === 0) {
      held.users = -1;
      fs.closeSync(held.fd);
    }
  }
}
