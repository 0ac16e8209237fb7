/** The line that shows how a transfer goes: bytes, rate, time left. Silent without a terminal. */
import { isDumbTerminal } from "../settings/environment.ts";
import { err } from "../output/style.ts";
import { printable } from "../output/text-width.ts";

const DRAW_MS = 100;
/** Transfers shorter than this show nothing, ms. */
const QUIET_MS = 300;
const BAR_COLUMNS = 20;
const NAME_COLUMNS = 20;
/** Time over which the rate is taken, ms. */
const RATE_WINDOW_MS = 3_000;

export class Progress implements Disposable {
  /** Bytes that have arrived where they belong. */
  done = 0;
  /** Bytes that were ever on the wire, also those that had to be sent again; grows with every other answer, too. */
  moved = 0;
  /** Undefined when it is not known. */
  total: number | undefined;
  #name: string;
  readonly #startedMs = performance.now();
  readonly #samples: { atMs: number; done: number }[] = [];
  #timer: NodeJS.Timeout | undefined;
  #isDrawn = false;

  constructor(name: string, total?: number) {
    this.#name = name;
    this.total = total;
    if (process.stderr.isTTY && !isDumbTerminal()) this.#timer = setInterval(() => this.#draw(), DRAW_MS);
  }

  /** What is being transferred now. */
  set name(name: string) {
    this.#name = name;
  }

  /** Whether anybody sees it. */
  get isShown(): boolean {
    return this.#timer !== undefined;
  }

  add(bytes: number): void {
    this.done += bytes;
    this.moved += bytes;
  }

  /** Takes the line off the terminal; it comes back with the next step. */
  clear(): void {
    if (this.#isDrawn) process.stderr.write("\r\x1b[K");
    this.#isDrawn = false;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.clear();
  }

  #draw(): void {
    const nowMs = performance.now();
    if (nowMs - this.#startedMs < QUIET_MS) return;
    // After a lost connection some of it is sent again: what was before says nothing about the rate.
    if (this.done < (this.#samples.at(-1)?.done ?? 0)) this.#samples.length = 0;
    this.#samples.push({ atMs: nowMs, done: this.done });
    while (this.#samples.length > 2 && nowMs - (this.#samples[0]?.atMs ?? nowMs) > RATE_WINDOW_MS) this.#samples.shift();
    const first = this.#samples[0] ?? { atMs: this.#startedMs, done: 0 };
    const seconds = (nowMs - first.atMs) / 1000;
    const rate = seconds > 0 ? (this.done - first.done) / seconds : 0;
    const line = progressLine({ name: this.#name, done: this.done, total: this.total, rate });
    // A line that reaches the last column would wrap, and not go away any more.
    const columns = (process.stderr.columns ?? 80) - 1;
    process.stderr.write(`\r\x1b[K${err("cyan", line.slice(0, columns))}`);
    this.#isDrawn = true;
  }
}

/** The line as text, at most 79 columns. Pure. `rate`: bytes a second. */
export function progressLine(facts: { name: string; done: number; total: number | undefined; rate: number }): string {
  const { done, total, rate } = facts;
  const name = printable(facts.name);
  const shown = (name.length > NAME_COLUMNS ? `…${name.slice(1 - NAME_COLUMNS)}` : name).padEnd(NAME_COLUMNS);
  const speed = rate > 0 ? `  ${bytesText(rate)}/s` : "";
  if (total === undefined || total === 0) return `${shown}  ${bytesText(done)}${speed}`;
  const share = Math.min(1, done / total);
  const bar = "━".repeat(Math.round(share * BAR_COLUMNS)).padEnd(BAR_COLUMNS, "╌");
  const left = rate > 0 && done < total ? `  ${timeText((total - done) / rate)} left` : "";
  return `${shown} ${bar} ${String(Math.floor(share * 100)).padStart(3)} %  ${bytesText(done)}${speed}${left}`;
}

export function bytesText(bytes: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${units[unit] ?? ""}`;
}

/** `9 s`, `2:41`, `5 h`, `3 d`. */
function timeText(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  return whole < 86_400 ? `${Math.floor(whole / 3600)} h` : `${Math.min(999, Math.floor(whole / 86_400))} d`;
}
