/**
 * What a user sees of a terminal session's lost connection: nothing when it is back at once, else
 * one line when it is lost and one when it is back.
 */
import { err } from "../output/style.ts";
import type { Screen } from "../terminal/screen.ts";
import { backMessage, gapMessage, lostMessage } from "./messages.ts";

/** A loss that ends sooner is not worth a line: the output goes on as if nothing had been, ms. */
const QUIET_MS = 700;

export class LossNotice {
  readonly #screen: Screen;
  readonly #sprite: string;
  readonly #reconnectForMs: number;
  #timer: NodeJS.Timeout | undefined;
  #shown = false;

  constructor(screen: Screen, options: { sprite: string; reconnectForMs: number }) {
    this.#screen = screen;
    this.#sprite = options.sprite;
    this.#reconnectForMs = options.reconnectForMs;
  }

  /** Losses longer than this are shown, and end with the terminal drawn anew, ms. */
  get afterMs(): number {
    return QUIET_MS;
  }

  lost(): void {
    this.#timer ??= setTimeout(() => {
      this.#shown = true;
      this.#say(lostMessage(this.#sprite, this.#reconnectForMs));
    }, QUIET_MS);
  }

  /** The connection is back. False: our line is still on a screen that nobody draws anew. */
  back(how: { afterMs: number; redrawn: boolean }): boolean {
    const wasShown = this.#shown;
    this.stop();
    if (!wasShown && !how.redrawn) return true;
    const line = backMessage(this.#sprite, how.afterMs);
    if (!how.redrawn) this.#say(line);
    else if (!this.#screen.beginPicture(line)) this.#print(line);
    return how.redrawn;
  }

  missing(bytes: number): void {
    this.#say(gapMessage(bytes));
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#shown = false;
  }

  #say(line: string): void {
    if (!process.stderr.isTTY || !this.#screen.notice(line)) this.#print(line);
  }

  #print(line: string): void {
    process.stderr.write(`${err("dim", line)}\n`);
  }
}
