import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { CHECKS, type TestStage } from "./stages.ts";
import { countCheck, countVitest, type StageResult } from "./summary.ts";

/**
 * Runs one stage of the tests in programs of its own.
 */

export const ROOT = path.resolve(import.meta.dirname, "..", "..");

/** Runs a Node script on our Node. Resolves with its exit code; killed counts as 128 + signal. */
export async function runScript(script: string, args: readonly string[], environment: Record<string, string> = {}): Promise<number> {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", script, ...args], {
    cwd: ROOT,
    stdio: "inherit",
    env: { ...process.env, ...environment },
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : os.constants.signals[signal])));
  });
}

/** All checks of the sources. Every one runs, also after a failure. */
export async function runChecks(): Promise<(StageResult & { name: string })[]> {
  const results = [];
  for (const { name, script, args } of CHECKS) {
    const exitCode = await runScript(path.join(ROOT, "node_modules", script), args);
    console.log(`${exitCode === 0 ? "✓" : "✗"} ${name}`);
    results.push({ name, ...countCheck(exitCode) });
  }
  return results;
}

/** One project of vitest; `args` narrow it down. */
export async function runProject(
  project: string,
  args: readonly string[] = [],
  environment: Record<string, string> = {},
): Promise<StageResult> {
  const directory = mkdtempSync(path.join(os.tmpdir(), "sprited-report-"));
  const report = path.join(directory, "report.json");
  try {
    const exitCode = await runScript(
      path.join(ROOT, "node_modules", "vitest", "vitest.mjs"),
      ["run", "--project", project, "--reporter=default", "--reporter=json", `--outputFile.json=${report}`, ...args],
      environment,
    );
    return countVitest(readIfThere(report), exitCode);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Whether a stage has any file to run. */
export function hasFiles(stage: TestStage): boolean {
  return stage.files.some(({ below, ending }) => listFiles(below).some((file) => file.endsWith(ending)));
}

function listFiles(below: string): string[] {
  try {
    return readdirSync(path.join(ROOT, below), { recursive: true, encoding: "utf8" }).filter((file) => !file.includes("node_modules"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
