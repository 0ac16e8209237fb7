/** The mailbox had no room; the caller should answer "busy, try again". */
export class MailboxFullError extends Error {
  override readonly name = "MailboxFullError";
}

/**
 * Runs jobs one after another in the order they came: the single writer of one thing's state.
 * Bounded: beyond `capacity` waiting jobs, `run` throws `MailboxFullError` at once.
 */
export class Mailbox {
  readonly #capacity: number;
  #waiting = 0;
  #tail: Promise<void> = Promise.resolve();

  constructor(options: { capacity: number }) {
    this.#capacity = options.capacity;
  }

  /** Jobs waiting or running. */
  get depth(): number {
    return this.#waiting;
  }

  /** Runs `job` when all earlier ones have ended; resolves or rejects with its outcome. */
  async run<T>(job: () => Promise<T>): Promise<T> {
    if (this.#waiting >= this.#capacity) throw new MailboxFullError(`more than ${this.#capacity} requests are waiting`);
    this.#waiting += 1;
    const turn = this.#tail;
    let release = (): void => {};
    this.#tail = new Promise((resolve) => {
      release = resolve;
    });
    try {
      await turn;
      return await job();
    } finally {
      this.#waiting -= 1;
      release();
    }
  }
}
