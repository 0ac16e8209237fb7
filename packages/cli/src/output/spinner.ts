/** A line on standard error that shows that something is going on. Silent without a terminal. */
import { isDumbTerminal } from "../settings/environment.ts";
import { err } from "./style.ts";

const FRAMES = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const FRAME_MS = 80;
/** Work shorter than this shows nothing, ms. */
const QUIET_MS = 150;

export class Spinner implements Disposable {
  #text = "";
  #frame = 0;
  #startedMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #drawn = false;

  /** Shows `text`, or changes it. */
  show(text: string): void {
    if (!process.stderr.isTTY || isDumbTerminal()) return;
    if (text !== this.#text) this.#startedMs = performance.now();
    this.#text = text;
    this.#timer ??= setInterval(() => this.#draw(), FRAME_MS);
  }

  /** Removes the line. */
  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (this.#drawn) process.stderr.write("\r\x1b[K");
    this.#drawn = false;
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  #draw(): void {
    const elapsedMs = performance.now() - this.#startedMs;
    if (elapsedMs < QUIET_MS && !this.#drawn) return;
    const frame = FRAMES[this.#frame++ % FRAMES.length] ?? "";
    const tail = elapsedMs > 1000 ? err("dim", ` ${(elapsedMs / 1000).toFixed(0)}s`) : "";
    process.stderr.write(`\r\x1b[K${err("cyan", frame)} ${this.#text}${tail}`);
    this.#drawn = true;
  }
}
