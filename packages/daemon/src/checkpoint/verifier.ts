/**
 * Checks of checkpoints in the background (CKPT-7, CKPT-8): sizes and hashes, the file system of a
 * throwaway clone, and for kept memory a trial resume. A bounded number at once, oldest first.
 *
 * Invariants: the checkpoint's own files are only read; a verdict is written once; what could not
 * be checked (no room, a tool that failed, a trial whose VM was ended) stays `verifying` and is tried again.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { ignore, type Logger, sleep } from "@sprited/base";
import { DiskError, type DiskPool, type DiskVerdict } from "@sprited/disk";
import type { CheckpointRecords, CheckpointRow } from "../store/index.ts";
import type { CheckpointHealth } from "./checkpoint.ts";
import { type CheckpointFiles, type CheckpointMeta, type CheckpointPaths, pathsIn } from "./files.ts";
import type { Trial } from "./throwaway.ts";

/** Attempts at a check that does not come to a verdict. */
const ATTEMPTS_MAX = 3;

export interface VerifierOptions {
  records: CheckpointRecords;
  files: CheckpointFiles;
  pool: DiskPool;
  /** Directory for throwaway clones. */
  scratch: string;
  /** Checks the file system of a clone, which it may repair. */
  checkDisk(file: string, options: { signal: AbortSignal }): Promise<DiskVerdict>;
  /** Resumes clones of kept memory once. Left out: not tried. */
  trialResume?: ((clone: CheckpointPaths, meta: CheckpointMeta, options: { signal: AbortSignal }) => Promise<Trial>) | undefined;
  /** Checks at once. */
  parallel: number;
  /** Pause before a check is tried again, ms. */
  retryMs: number;
  logger: Logger;
}

interface Verdict {
  health: CheckpointHealth;
  detail: string;
}

/** A resumed guest did not answer: a verdict only when it never does, because a busy host looks the same. */
class SilentGuest extends Error {
  override readonly name = "SilentGuest";
}

type Key = Pick<CheckpointRow, "spriteId" | "id">;

export class Verifier {
  readonly #options: VerifierOptions;
  readonly #queue: Key[] = [];
  readonly #closing = new AbortController();
  readonly #running = new Set<Promise<void>>();

  constructor(options: VerifierOptions) {
    this.#options = options;
  }

  enqueue(key: Key): void {
    this.#queue.push(key);
    this.#pump();
  }

  /** Ends the checks; what is not done is done after the next start. */
  async close(): Promise<void> {
    this.#closing.abort(new Error("the daemon is stopping"));
    this.#queue.length = 0;
    await Promise.all(this.#running);
  }

  #pump(): void {
    while (this.#running.size < this.#options.parallel && !this.#closing.signal.aborted) {
      const key = this.#queue.shift();
      if (!key) return;
      const work = this.#verify(key)
        .catch((error: unknown) => this.#failed(key, error))
        .finally(() => {
          this.#running.delete(work);
          this.#pump();
        });
      this.#running.add(work);
    }
  }

  async #verify(key: Key): Promise<void> {
    let silent = 0;
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.#verifyOnce(key);
        return;
      } catch (error) {
        if (this.#closing.signal.aborted || !this.#isWanted(key)) return;
        if (error instanceof SilentGuest) silent += 1;
        if (error instanceof SilentGuest && silent === ATTEMPTS_MAX)
          return this.#conclude(key, { health: "resume_failed", detail: error.message });
        this.#failed(key, error);
        if (attempt === ATTEMPTS_MAX) return;
        await sleep(this.#options.retryMs, { signal: this.#closing.signal, ref: false });
      }
    }
  }

  async #verifyOnce(key: Key): Promise<void> {
    if (!this.#isWanted(key)) return;
    const startedMs = performance.now();
    const verdict = await this.#verdict(key);
    if (!this.#isWanted(key)) return;
    this.#conclude(key, verdict, Math.round(performance.now() - startedMs));
  }

  #conclude(key: Key, { health, detail }: Verdict, durationMs?: number): void {
    this.#options.records.update(key.spriteId, key.id, { state: health === "" ? "complete" : "failed", health });
    const fields = {
      event: "checkpoint.verify",
      outcome: health === "" ? "ok" : health,
      spriteId: key.spriteId,
      checkpointId: key.id,
      ...(durationMs === undefined ? {} : { durationMs }),
    };
    if (health === "") this.#options.logger.info(fields, "checkpoint verified");
    else this.#options.logger.error({ ...fields, detail }, "a checkpoint is damaged");
  }

  async #verdict(key: Key): Promise<Verdict> {
    const { files, pool, checkDisk, trialResume } = this.#options;
    const { signal } = this.#closing;
    let meta: CheckpointMeta;
    try {
      meta = await files.verify(key.spriteId, key.id);
    } catch (error) {
      if (error instanceof DiskError && error.code === "disk_damaged") return { health: "damaged", detail: error.message };
      throw error;
    }
    const from = files.paths(key.spriteId, key.id);
    await using clone = await this.#scratch();
    await pool.clone(from.diskPath, clone.paths.diskPath, { signal, durable: false });
    const disk = await checkDisk(clone.paths.diskPath, { signal });
    if (!disk.healthy) return { health: "mount_failed", detail: disk.detail };
    if (!meta.memory || !trialResume) return { health: "", detail: "" };
    // The check may have changed the clone; memory fits only the disk it was taken with.
    await fs.rm(clone.paths.diskPath);
    await pool.clone(from.diskPath, clone.paths.diskPath, { signal, durable: false });
    await fs.mkdir(clone.paths.memoryDirectory, { mode: 0o711 });
    await pool.clone(from.ramPath, clone.paths.ramPath, { signal, durable: false });
    await pool.clone(from.statePath, clone.paths.statePath, { signal, durable: false });
    const { outcome, detail } = await trialResume(clone.paths, meta, { signal });
    if (outcome === "silent") throw new SilentGuest(detail);
    return outcome === "answered" ? { health: "", detail: "" } : { health: "resume_failed", detail };
  }

  async #scratch(): Promise<AsyncDisposable & { paths: CheckpointPaths }> {
    const directory = path.join(this.#options.scratch, `verify-${randomBytes(6).toString("hex")}`);
    await fs.mkdir(directory, { recursive: true, mode: 0o711 });
    return {
      paths: pathsIn(directory),
      [Symbol.asyncDispose]: () => fs.rm(directory, { recursive: true, force: true }),
    };
  }

  #isWanted(key: Key): boolean {
    return this.#options.records.find(key.spriteId, key.id)?.state === "verifying";
  }

  #failed(key: Key, error: unknown): void {
    if (this.#closing.signal.aborted) return;
    try {
      this.#options.records.update(key.spriteId, key.id, { health: "unchecked" });
    } catch (cause) {
      // A store that takes nothing now (a full disk) is no reason to end the daemon; the check is done again.
      this.#options.logger.warn({ event: "checkpoint.verify", checkpointId: key.id, err: cause }, "a check's outcome could not be stored");
    }
    this.#options.logger.warn(
      { event: "checkpoint.verify", outcome: "unchecked", spriteId: key.spriteId, checkpointId: key.id, err: error },
      "a checkpoint could not be checked",
    );
  }
}

/** Empties the directory of throwaway clones: what lies there is of a daemon that is gone. */
export async function emptyScratch(directory: string): Promise<void> {
  await fs.rm(directory, { recursive: true, force: true }).catch(ignore("made anew below"));
  await fs.mkdir(directory, { recursive: true, mode: 0o711 });
  await fs.chmod(directory, 0o711);
}
