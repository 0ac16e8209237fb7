import type { Config } from "../../config/index.ts";
import { EXIT_CODES } from "../exit-codes.ts";
import { renderTable } from "../terminal.ts";
import { blocks, type Check, judge } from "./checks.ts";
import { inspectHost } from "./host-report.ts";

/** `sprited doctor`: looks, judges, prints. Resolves with the exit code. */
export async function doctor(
  config: Config,
  options: { json: boolean; readImages: boolean; out: (text: string) => void },
): Promise<number> {
  const checks = judge(await inspectHost(config, options));
  const blocked = blocks(checks);
  options.out(
    options.json ? `${JSON.stringify({ ok: !blocked, home: config.home, checks }, undefined, 2)}\n` : `${renderChecks(checks)}\n`,
  );
  return blocked ? EXIT_CODES.doctor.code : EXIT_CODES.ok.code;
}

/** The verdicts as a table, what to do below each that is not `ok`. Pure. */
export function renderChecks(checks: readonly Check[]): string {
  const table = renderTable(checks.map((check) => [check.verdict, check.title, check.detail])).split("\n");
  const lines = checks.flatMap((check, index) => [table[index] ?? "", ...(check.fix === undefined ? [] : [`      → ${check.fix}`])]);
  const failed = checks.filter((check) => check.verdict === "fail").length;
  const warned = checks.filter((check) => check.verdict === "warn").length;
  const summary = failed > 0 ? `${failed} block` : warned > 0 ? `Nothing blocks; ${warned} could be better` : "All is well";
  return [...lines, "", `${summary}.`].join("\n");
}
