import path from "node:path";
import { stripVTControlCharacters } from "node:util";
import { z } from "zod";

/**
 * Adds up what the stages of a test run report. Pure.
 *
 * Invariant: a stage whose program failed never counts as zero failures, whatever its report says.
 */

export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** What is read of vitest's JSON report. */
const vitestReport = z.object({
  success: z.boolean(),
  numPassedTests: z.int().min(0),
  numFailedTests: z.int().min(0),
  numPendingTests: z.int().min(0),
  numTodoTests: z.int().min(0).default(0),
  testResults: z.array(
    z.object({
      name: z.string(),
      status: z.string(),
      message: z.string().default(""),
      assertionResults: z.array(z.object({ fullName: z.string(), status: z.string(), failureMessages: z.array(z.string()).nullish() })),
    }),
  ),
});

export interface StageResult extends Counts {
  /** Names of tests that did not run. */
  skippedTests: string[];
  /** What failed, with file and message. */
  failures: Failure[];
}

export interface Failure {
  file: string;
  /** Empty when the file could not be loaded. */
  test: string;
  message: string;
}

/** Lines of a message that the end of a run repeats. */
const MESSAGE_LINES = 6;

const NOTHING_RAN: StageResult = { passed: 0, failed: 1, skipped: 0, skippedTests: [], failures: [] };

/** One check without a report of its own. */
export function countCheck(exitCode: number): StageResult {
  return exitCode === 0 ? { passed: 1, failed: 0, skipped: 0, skippedTests: [], failures: [] } : NOTHING_RAN;
}

/** A run of vitest: its report's text (undefined when it left none) and its exit code. */
export function countVitest(reportText: string | undefined, exitCode: number): StageResult {
  const report = parseReport(reportText);
  if (!report) return NOTHING_RAN;
  const broken = report.testResults.filter((file) => file.status === "failed" && file.assertionResults.length === 0).length;
  const failed = report.numFailedTests + broken;
  const isBad = exitCode !== 0 || !report.success;
  const skippedTests = report.testResults.flatMap((file) =>
    file.assertionResults.filter((test) => test.status !== "passed" && test.status !== "failed").map((test) => test.fullName),
  );
  return {
    passed: report.numPassedTests,
    failed: isBad ? Math.max(1, failed) : failed,
    skipped: report.numPendingTests + report.numTodoTests,
    skippedTests,
    failures: report.testResults.flatMap((file) => failuresOf(file)),
  };
}

function failuresOf(file: z.infer<typeof vitestReport>["testResults"][number]): Failure[] {
  if (file.status === "failed" && file.assertionResults.length === 0) return [{ file: file.name, test: "", message: file.message }];
  return file.assertionResults
    .filter((test) => test.status === "failed")
    .map((test) => ({ file: file.name, test: test.fullName, message: (test.failureMessages ?? []).join("\n") }));
}

/** What the end of a run says of a failure: the start of its message is enough to find it above. */
export function failureLines({ file, test, message }: Failure, root: string): string[] {
  const lines = stripVTControlCharacters(message).split("\n");
  return [
    `✗ ${path.relative(root, file)}${test === "" ? "" : ` > ${test}`}`,
    ...lines.slice(0, MESSAGE_LINES).map((line) => `    ${line}`),
  ];
}

/** The sum of all stages. */
export function addCounts(all: readonly Counts[]): Counts {
  return all.reduce<Counts>(
    (sum, one) => ({ passed: sum.passed + one.passed, failed: sum.failed + one.failed, skipped: sum.skipped + one.skipped }),
    { passed: 0, failed: 0, skipped: 0 },
  );
}

/** The line a run closes with. */
export function closingLine(counts: Counts): string {
  return `${counts.passed} passed, ${counts.failed} failed${counts.skipped > 0 ? `, ${counts.skipped} skipped` : ""}`;
}

function parseReport(text: string | undefined): z.infer<typeof vitestReport> | undefined {
  if (text === undefined) return undefined;
  try {
    return vitestReport.safeParse(JSON.parse(text)).data;
  } catch {
    // A report cut short by a killed run; the caller counts it as a failure.
    return undefined;
  }
}
