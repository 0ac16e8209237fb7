/**
 * Calls that go on over lost connections: one line when it is lost, one when it is back.
 *
 * Invariants: only what a later attempt can cure is tried again; Ctrl-C works at every moment (no
 * signal is caught here); the time that is tried counts from the loss.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { ConnectionError } from "@sprited/protocol/client/errors";
import { ApiError, ERRORS } from "@sprited/protocol/errors";
import { backMessage, lostMessage } from "../exec/messages.ts";
import { err } from "../output/style.ts";

const PAUSE_MS = 200;
const PAUSE_MS_MAX = 5000;

export class Persistence {
  readonly #sprite: string;
  readonly #forMs: number;
  #lostMs: number | undefined;
  #pauseMs = PAUSE_MS;

  constructor(sprite: string, forMs: number) {
    this.#sprite = sprite;
    this.#forMs = forMs;
  }

  /** A call went well: the connection is there. */
  connected(): void {
    if (this.#lostMs !== undefined) note(backMessage(this.#sprite, performance.now() - this.#lostMs));
    this.#lostMs = undefined;
    this.#pauseMs = PAUSE_MS;
  }

  /** Resolves when the next attempt is due; throws `error` when there is none. */
  async failed(error: unknown): Promise<void> {
    if (!passes(error)) throw error;
    if (this.#lostMs === undefined && this.#forMs > 0) note(lostMessage(this.#sprite, this.#forMs));
    this.#lostMs ??= performance.now();
    if (performance.now() - this.#lostMs >= this.#forMs) throw error;
    await sleep(this.#pauseMs);
    this.#pauseMs = Math.min(this.#pauseMs * 2, PAUSE_MS_MAX);
  }
}

/** True for what may be over in a moment. */
function passes(error: unknown): boolean {
  if (error instanceof ConnectionError) return error.code !== "bad_answer";
  return ApiError.is(error) && ERRORS[error.code].retry !== "never" && error.status >= 500;
}

function note(line: string): void {
  process.stderr.write(`${err("dim", line)}\n`);
}
