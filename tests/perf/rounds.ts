/**
 * Measuring A beside B: interleaved rounds, so that a noisy host disturbs both alike; medians with
 * minimum and maximum; the ratio is what counts. Pure but for the clock.
 */
export interface Samples {
  median: number;
  min: number;
  max: number;
  count: number;
}

/** What one measure found. */
export interface Figure {
  /** Short name, also for `--only`. */
  id: string;
  /** What was measured, for people. */
  what: string;
  unit: "ms" | "MB/s" | "MB" | "% of a core" | "faults";
  product: Samples;
  /** The raw thing beside it; undefined where there is none to compare with. */
  baseline: { what: string; samples: Samples } | undefined;
  /** The promise; undefined when the figure is only reported. */
  target: Target | undefined;
  /** What a reader must know to judge the figure. */
  note?: string;
}

export type Target =
  | { kind: "ratio_max"; value: number }
  | { kind: "ratio_min"; value: number }
  /** Product minus baseline, in the figure's unit. */
  | { kind: "difference_max"; value: number }
  | { kind: "value_max"; value: number };

export function samplesOf(values: readonly number[]): Samples {
  if (values.length === 0) throw new Error("no samples");
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  const median = sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
  return { median, min: sorted[0] ?? median, max: sorted.at(-1) ?? median, count: sorted.length };
}

/** Product over baseline, of medians; undefined without a baseline. */
export function ratioOf(figure: Figure): number | undefined {
  if (!figure.baseline || figure.baseline.samples.median === 0) return undefined;
  return figure.product.median / figure.baseline.samples.median;
}

/** Whether the promise is kept; undefined when there is none. */
export function isMet(figure: Figure): boolean | undefined {
  const { target } = figure;
  if (!target) return undefined;
  switch (target.kind) {
    case "ratio_max":
      return (ratioOf(figure) ?? Infinity) <= target.value;
    case "ratio_min":
      return (ratioOf(figure) ?? 0) >= target.value;
    case "difference_max":
      return figure.product.median - (figure.baseline?.samples.median ?? 0) <= target.value;
    case "value_max":
      return figure.product.median <= target.value;
  }
}

/** Duration of `work`, ms. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return performance.now() - startedMs;
}

/** Runs A and B in turn, the order swapped every round; the first round warms up and is dropped. */
export async function interleave(rounds: number, a: () => Promise<number>, b: () => Promise<number>): Promise<{ a: Samples; b: Samples }> {
  const values = { a: [] as number[], b: [] as number[] };
  for (let round = 0; round <= rounds; round += 1) {
    const inOrder = round % 2 === 0;
    if (inOrder) values.a.push(await a());
    values.b.push(await b());
    if (!inOrder) values.a.push(await a());
  }
  return { a: samplesOf(values.a.slice(1)), b: samplesOf(values.b.slice(1)) };
}
