import { chmod, mkdir } from "node:fs/promises";
import type { OnProgress } from "@sprited/disk";
import { SetupError } from "./errors.ts";
import { findFingerprint, markFinished, readFinished } from "./finished.ts";
import type { ProgressReporter } from "./progress.ts";
import { requireSpace, type SpaceNeed } from "./space.ts";

/**
 * The set-up as a list of steps, each idempotent: a step looks for its own result first, so a
 * set-up that was killed anywhere goes on where it stopped and costs little when all is there.
 */

export interface SetupStep {
  /** Stable; remembered in the home once finished. */
  id: string;
  /** For people. */
  title: string;
  /** What must fit on the disk before the set-up begins, unless the step was finished once. */
  need?: SpaceNeed | undefined;
  /**
   * Digest of what the result depends on, and of the result as far as a look is cheap. While it is
   * the one of the last time, the step is left out. For steps that cannot tell quickly themselves.
   */
  fingerprint?: (() => Promise<string>) | undefined;
  run(onProgress: OnProgress, signal: AbortSignal | undefined): Promise<void>;
}

export interface RunStepsOptions {
  home: string;
  progress: ProgressReporter;
  /** Room that stays free, bytes. */
  floorBytes: number;
  freeBytes: (path: string) => Promise<number>;
  signal?: AbortSignal | undefined;
}

/** Runs all steps in order. Throws what a step throws; finished ones stay finished. */
export async function runSteps(steps: readonly SetupStep[], options: RunStepsOptions): Promise<void> {
  const { home, progress, signal } = options;
  await ensureHome(home);
  const finished = await readFinished(home);
  const needs = steps.filter((step) => !finished.has(step.id)).flatMap((step) => (step.need === undefined ? [] : [step.need]));
  requireSpace(home, { freeBytes: await options.freeBytes(home), floorBytes: options.floorBytes, needs });
  for (const step of steps) {
    signal?.throwIfAborted();
    if (step.fingerprint && finished.has(step.id) && (await step.fingerprint()) === (await findFingerprint(home, step.id))) continue;
    await progress.step(step.title, async (onProgress) => step.run(onProgress, signal));
    await markFinished(home, step.id, await step.fingerprint?.());
  }
}

/**
 * Makes the home unless it is there. VM processes of other users must be able to pass through;
 * listing it is for its owner. Throws `home_unusable`.
 */
export async function ensureHome(home: string): Promise<void> {
  try {
    const made = await mkdir(home, { recursive: true });
    if (made !== undefined) await chmod(home, 0o711);
  } catch (cause) {
    throw new SetupError("home_unusable", `${home} cannot be made. Set SPRITED_HOME to a directory you can write to.`, { cause });
  }
}
