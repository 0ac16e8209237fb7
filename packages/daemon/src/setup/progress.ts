import { type Clock, ignore, systemClock } from "@sprited/base";
import type { OnProgress } from "@sprited/disk";

/**
 * Steps of long work on a terminal (a bar or a spinner that is redrawn in place) or in a log
 * (plain lines). A step that is over at once, because its work was done before, leaves no line.
 */

/** A step that ends within this time without telling of progress stays unseen, `ms`. */
const UNSEEN_MS = 400;
/** Redraw on a terminal, `ms`. */
const REDRAW_MS = 120;
/** Sign of life in a log, `ms`. */
const LOG_EVERY_MS = 15_000;
const BAR_CELLS = 24;
const SPINNER = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/** Where lines go. */
export interface Screen {
  write(text: string): void;
  isTty: boolean;
  columns: number;
}

/** What a bar shows. */
export interface StepView {
  title: string;
  /** 0..1; undefined when unknown. */
  fraction: number | undefined;
  detail: string;
  elapsedMs: number;
}

/** One line of at most `columns` characters. Pure. */
export function renderStep(view: StepView, columns: number): string {
  const percent = view.fraction === undefined ? undefined : Math.max(0, Math.min(1, view.fraction));
  const spin = SPINNER[Math.floor(view.elapsedMs / REDRAW_MS) % SPINNER.length] ?? "";
  const bar = percent === undefined ? spin : `${renderBar(percent)} ${String(Math.floor(percent * 100)).padStart(3)} %`;
  const line = `▸ ${view.title}  ${bar}  ${formatDuration(view.elapsedMs)}${view.detail === "" ? "" : `  ${view.detail}`}`;
  const characters = [...line];
  return characters.length <= columns ? line : `${characters.slice(0, Math.max(1, columns - 1)).join("")}…`;
}

function renderBar(fraction: number): string {
  const full = Math.round(fraction * BAR_CELLS);
  return `[${"█".repeat(full)}${"·".repeat(BAR_CELLS - full)}]`;
}

/** `0.4 s`, `75 s`, `3 min 05 s`. Pure. */
export function formatDuration(ms: number): string {
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 120_000) return `${Math.round(ms / 1000)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
}

/** Shows steps one after another. */
export interface ProgressReporter {
  /** Runs `work` as a step; its progress and its end are shown. Passes on what it throws. */
  step<T>(title: string, work: (onProgress: OnProgress) => Promise<T>): Promise<T>;
  /** A line of its own. */
  line(text: string): void;
  /** How many steps were shown. */
  readonly shown: number;
}

export function openProgress(screen: Screen, clock: Clock = systemClock): ProgressReporter {
  let shown = 0;
  const clear = (): void => {
    if (screen.isTty) screen.write("\r\u001B[2K");
  };
  return {
    get shown() {
      return shown;
    },
    line: (text) => {
      clear();
      screen.write(`${text}\n`);
    },
    step: async (title, work) => {
      const view = new RunningStep(title, screen, clock);
      try {
        const result = await work((progress) => view.report(progress.fraction, progress.detail ?? progress.step));
        if (view.visible) screen.write(view.closingLine("✓"));
        return result;
      } catch (error) {
        screen.write(view.closingLine("✗"));
        throw error;
      } finally {
        view.stop();
        if (view.visible) shown += 1;
      }
    },
  };
}

/** One step while it runs. */
class RunningStep {
  readonly #title: string;
  readonly #screen: Screen;
  readonly #clock: Clock;
  readonly #startedMs: number;
  readonly #stopped = new AbortController();
  #fraction: number | undefined;
  #detail = "";
  #announced = false;

  constructor(title: string, screen: Screen, clock: Clock) {
    this.#title = title;
    this.#screen = screen;
    this.#clock = clock;
    this.#startedMs = clock.monotonicMs();
    void this.#animate().catch(ignore("the step ended"));
  }

  /** Whether anything of it was written. */
  get visible(): boolean {
    return this.#announced;
  }

  report(fraction: number | undefined, detail: string): void {
    if (fraction !== undefined) this.#fraction = fraction;
    this.#detail = detail;
  }

  closingLine(mark: string): string {
    return `${this.#screen.isTty ? "\r\u001B[2K" : ""}${mark} ${this.#title}  ${formatDuration(this.#elapsed())}\n`;
  }

  stop(): void {
    this.#stopped.abort();
  }

  #elapsed(): number {
    return this.#clock.monotonicMs() - this.#startedMs;
  }

  async #animate(): Promise<void> {
    await this.#pause(UNSEEN_MS);
    this.#announced = true;
    if (!this.#screen.isTty) this.#screen.write(`▸ ${this.#title}\n`);
    for (;;) {
      if (this.#screen.isTty) {
        this.#screen.write(`\r\u001B[2K${renderStep(this.#view(), this.#screen.columns)}`);
        await this.#pause(REDRAW_MS);
      } else {
        await this.#pause(LOG_EVERY_MS);
        this.#screen.write(`  ${renderLogLine(this.#view())}\n`);
      }
    }
  }

  #view(): StepView {
    return { title: this.#title, fraction: this.#fraction, detail: this.#detail, elapsedMs: this.#elapsed() };
  }

  async #pause(ms: number): Promise<void> {
    await this.#clock.sleep(ms, { signal: this.#stopped.signal });
  }
}

function renderLogLine(view: StepView): string {
  const percent = view.fraction === undefined ? "" : `${Math.floor(view.fraction * 100)} %  `;
  return `${view.title}: ${percent}${formatDuration(view.elapsedMs)}${view.detail === "" ? "" : `  ${view.detail}`}`;
}
