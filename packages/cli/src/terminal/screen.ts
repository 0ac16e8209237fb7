/**
 * The user's terminal while it shows a remote one.
 *
 * Invariants: from `enter` on, every way out of the process restores the terminal exactly once
 * (an `exit` hook is the last of them); restoring writes synchronously; nothing is written to an
 * output that is no terminal except the remote output itself.
 */
import { writeSync } from "node:fs";
import { ModeTracker } from "./mode-tracker.ts";
import { enterRawMode, type RawMode } from "./raw-mode.ts";
import { undoSequence } from "./undo.ts";

/** How long reports of the terminal are waited for after they were switched off, ms. */
const DRAIN_MS = 150;
/** Attempts to write to a terminal that takes nothing at the moment. */
const WRITE_ATTEMPTS = 100;
/** Asks the terminal for its status; the answer comes after everything it sent before. */
const STATUS_REQUEST = "\x1b[5n";
const STATUS_ANSWER = "\x1b[0n";

export interface Size {
  cols: number;
  rows: number;
}

export class Screen {
  #tracker: ModeTracker;
  #raw: RawMode | undefined;
  #state: "before" | "inside" | "left" = "before";
  #undone = false;
  readonly #onExit = (): void => this.leave();

  constructor() {
    this.#tracker = new ModeTracker(this.size?.rows ?? 24);
  }

  /** Size of the terminal; undefined when there is none or it does not know. */
  get size(): Size | undefined {
    const { columns: cols, rows } = process.stdout;
    return process.stdout.isTTY && cols > 0 && rows > 0 ? { cols, rows } : undefined;
  }

  enter(): void {
    if (this.#state !== "before") return;
    this.#state = "inside";
    process.on("exit", this.#onExit);
    if (process.stdin.isTTY) this.#raw = enterRawMode(process.stdin);
  }

  /** Raw mode again, after the process was stopped and continued. */
  reenter(): void {
    if (this.#state === "inside") this.#raw?.apply();
  }

  /** Shows remote output. False: hold the output back until `drain` of standard output. */
  write(output: Uint8Array): boolean {
    if (this.#state === "left" || this.#undone) return true;
    this.enter();
    if (process.stdout.isTTY) this.#tracker.feed(output);
    return process.stdout.write(output);
  }

  /** True when both sides of a notice are the terminal that is shown on. */
  get #isShown(): boolean {
    return this.#state === "inside" && !this.#undone && process.stdout.isTTY;
  }

  /**
   * Shows one line of ours amid the remote output: below it on the main screen, over the last row
   * of an alternate one. False when there is no terminal to show it on.
   */
  notice(line: string): boolean {
    if (!this.#isShown) return false;
    const { cols = 80, rows = 24 } = this.size ?? {};
    const text = line.slice(0, cols - 1);
    const start = this.#tracker.unfinished === "nothing" ? "" : "\x18";
    if (this.#tracker.alternate !== undefined) writeNow(`${start}\x1b7\x1b[0m\x1b[${rows};1H\x1b[2K\x1b[7m${text}\x1b[0m\x1b8`);
    else writeNow(`${start}${this.#tracker.leavesFreshLine ? "" : "\r\n"}\x1b[0m${text}\r\n`);
    return true;
  }

  /**
   * Makes room for a picture that is drawn from scratch: modes are undone, what is on the screen,
   * with `line` below it, moves up into the terminal's memory. False as for `notice`.
   */
  beginPicture(line: string): boolean {
    if (!this.#isShown) return false;
    const rows = this.size?.rows ?? 24;
    const fresh = this.#tracker.leavesFreshLine ? "" : "\r\n";
    writeNow(`${undoSequence(this.#tracker)}${fresh}${line}\x1b[${rows};1H${"\n".repeat(rows)}\x1b[H`);
    this.#tracker = new ModeTracker(rows);
    return true;
  }

  resized(): void {
    if (this.size) this.#tracker.resize(this.size.rows);
  }

  /**
   * As `leave`, and swallows reports that the terminal had already sent, so that they do not end
   * up as input of the user's shell. `freshLine`: a message follows, put the cursor on an empty line.
   */
  async leaveQuietly(options: { freshLine: boolean }): Promise<void> {
    if (this.#state === "inside" && this.#tracker.sendsReports && process.stdin.isTTY && process.stdout.isTTY) {
      this.#undo(options);
      writeNow(STATUS_REQUEST);
      await answered();
    }
    this.leave(options);
  }

  /** Restores the terminal. Without effect the second time. */
  leave(options: { freshLine: boolean } = { freshLine: true }): void {
    if (this.#state !== "inside") return;
    this.#state = "left";
    process.off("exit", this.#onExit);
    this.#undo(options);
    this.#raw?.restore();
  }

  /** Undoes the modes, once: a second time would pop what is not ours. */
  #undo({ freshLine }: { freshLine: boolean }): void {
    if (this.#undone || !process.stdout.isTTY) return;
    this.#undone = true;
    writeNow(undoSequence(this.#tracker) + (freshLine && !this.#tracker.leavesFreshLine ? "\r\n" : ""));
  }
}

/** Resolves when the terminal answered the status request, or did not in time. */
function answered(): Promise<void> {
  return new Promise((resolve) => {
    let seen = "";
    const done = (): void => {
      clearTimeout(timer);
      process.stdin.off("data", listen);
      resolve();
    };
    const listen = (data: Uint8Array): void => {
      seen = (seen + Buffer.from(data).toString("latin1")).slice(-256);
      if (seen.includes(STATUS_ANSWER)) done();
    };
    const timer = setTimeout(done, DRAIN_MS);
    process.stdin.on("data", listen);
  });
}

/** Writes to standard output before returning. A terminal that is gone is nobody's loss. */
function writeNow(text: string): void {
  let bytes: Uint8Array = Buffer.from(text, "latin1");
  for (let attempt = 0; bytes.length > 0 && attempt < WRITE_ATTEMPTS; attempt++) {
    try {
      bytes = bytes.subarray(writeSync(1, bytes));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") return;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}
