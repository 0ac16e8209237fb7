/**
 * The size of a terminal with several clients (EXEC-18): that of the client that was active last
 * (came, typed or changed its window), as `tmux` does by default. Pure bookkeeping.
 */
import type { TerminalSize } from "@sprited/protocol/guest";

/** Names a client; compared by identity. */
export type WindowKey = object;

export class TerminalWindows {
  /** Clients that named a size; the last one was active last. */
  readonly #sizes = new Map<WindowKey, TerminalSize>();
  #size: TerminalSize;

  constructor(size: TerminalSize) {
    this.#size = size;
  }

  /** The terminal's size. */
  get size(): TerminalSize {
    return this.#size;
  }

  /** A client's window has this size. Returns the terminal's new size, undefined when it stays. */
  resize(client: WindowKey, size: TerminalSize): TerminalSize | undefined {
    this.#sizes.delete(client);
    this.#sizes.set(client, { cols: size.cols, rows: size.rows });
    return this.#settle();
  }

  /** A client typed. */
  active(client: WindowKey): TerminalSize | undefined {
    const size = this.#sizes.get(client);
    return size && this.resize(client, size);
  }

  /** A client left; the one that was active before it takes over. */
  leave(client: WindowKey): TerminalSize | undefined {
    return this.#sizes.delete(client) ? this.#settle() : undefined;
  }

  #settle(): TerminalSize | undefined {
    const latest = [...this.#sizes.values()].at(-1);
    if (!latest || (latest.cols === this.#size.cols && latest.rows === this.#size.rows)) return undefined;
    this.#size = latest;
    return latest;
  }
}
