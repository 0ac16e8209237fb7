/**
 * One job that runs: gives it its input, ends it when its time is up, hears its end (JOB-4..7).
 *
 * Invariants: the intent to end it for its time is stored before the first signal; the deadline
 * counts from the stored start, so that restarts and sleep do not prolong it; nothing is done
 * after `detach` or the end.
 */
import { after, ignore, type Logger } from "@sprited/base";
import type { ExecSession } from "../exec/exec.ts";
import type { JobRecord, JobRecords } from "../store/index.ts";
import { ended } from "./outcome.ts";

/** From TERM to KILL, and between further KILLs, ms. */
const KILL_AFTER_MS = 10_000;
/** Pause before an outcome that could not be stored is stored again, ms. */
const STORE_RETRY_MS = 1_000;
/** Longest single timer, ms. */
const TIMER_MS_MAX = 24 * 3_600_000;

export interface RunOptions {
  job: JobRecord;
  session: ExecSession;
  records: JobRecords;
  nowMs: () => number;
  logger: Logger;
  /** Called once, with the record as stored. */
  onEnd: (job: JobRecord) => void;
}

export class JobRun {
  readonly session: ExecSession;
  readonly #options: RunOptions;
  #job: JobRecord;
  #timer: Disposable | undefined;
  #over = false;

  constructor(options: RunOptions) {
    this.#options = options;
    this.session = options.session;
    this.#job = options.job;
    void this.session.ended.then(() => this.#end());
    if (this.session.end) return;
    const input = options.records.input(options.job.id);
    if (input) void this.#feed(input).catch(ignore("the command took no more input, or the session ended"));
    this.#watchTime();
  }

  /** The record with the bytes received so far. */
  get job(): JobRecord {
    const { stdout, stderr } = this.session.outputOffsets;
    return { ...this.#job, stdoutBytes: stdout, stderrBytes: stderr };
  }

  /** Stops following; the command runs on. */
  detach(): void {
    this.#over = true;
    this.#timer?.[Symbol.dispose]();
  }

  #end(): void {
    const { end, outputOffsets } = this.session;
    if (this.#over || !end) return;
    this.#timer?.[Symbol.dispose]();
    const { records, nowMs, onEnd } = this.#options;
    const atMs = this.session.endedAtMs ?? nowMs();
    const job = ended(this.#job, end, { atMs, stdoutBytes: outputOffsets.stdout, stderrBytes: outputOffsets.stderr });
    try {
      records.update(job);
      records.inputTaken(job.id);
    } catch (error) {
      // A store that takes nothing now (a full disk) will later: an outcome that is not stored is shown to nobody (JOB-5).
      this.#options.logger.warn(
        { event: "job_end", job: job.id, outcome: "failed", err: error },
        "a job's end could not be stored; trying again",
      );
      this.#timer = after(STORE_RETRY_MS, () => this.#end());
      return;
    }
    this.detach();
    this.#job = job;
    onEnd(job);
  }

  /** Goes on where an earlier daemon stopped. */
  async #feed(input: Uint8Array): Promise<void> {
    await this.session.inputKnown;
    const attachment = this.session.attach({ from: "end" });
    try {
      await attachment.write(input.subarray(this.session.inputOf(undefined).accepted));
      attachment.endInput();
      await this.#taken(input.length);
    } finally {
      attachment.close();
    }
    if (!this.#over) this.#options.records.inputTaken(this.#job.id);
  }

  /** Resolves when the command has all of its input, or has ended. */
  #taken(bytes: number): Promise<void> {
    return new Promise((resolve) => {
      const stop = this.session.onInputTaken(() => look());
      const done = (): void => {
        stop();
        resolve();
      };
      const look = (): void => {
        if (this.session.inputOf(undefined).taken >= bytes) done();
      };
      void this.session.ended.then(done);
      look();
    });
  }

  #watchTime(): void {
    const { timeoutMs, startedAtMs } = this.#job;
    if (timeoutMs === undefined || startedAtMs === undefined || this.#over) return;
    const leftMs = startedAtMs + timeoutMs - this.#options.nowMs();
    if (leftMs > 0) this.#timer = after(Math.min(leftMs, TIMER_MS_MAX), () => this.#watchTime());
    else this.#timeUp();
  }

  #timeUp(): void {
    if (this.session.end) return;
    const nowMs = this.#options.nowMs();
    const begun = this.#job.timingOutAtMs;
    if (begun === undefined) {
      this.#job = { ...this.#job, timingOutAtMs: nowMs };
      this.#options.records.update(this.#job);
    }
    this.#signal(begun !== undefined && nowMs - begun >= KILL_AFTER_MS ? "KILL" : "TERM");
    this.#timer = after(KILL_AFTER_MS, () => this.#timeUp());
  }

  #signal(name: string): void {
    try {
      this.session.signal(name);
    } catch (error) {
      this.#options.logger.warn({ event: "job_timeout", job: this.#job.id, err: error }, "a job could not be signalled; tried again soon");
    }
  }
}
