/** What a pool tells of itself, as lines of at most 80 columns for people. Pure. */
import { age, seconds } from "../output/age.ts";
import { isObject } from "../settings/files.ts";

/** Lines about claims and spares; none from a server that tells nothing. Anything may be missing in `raw`. */
export function poolWords(raw: unknown, nowMs: number): string[] {
  const metrics = isObject(raw) ? raw["metrics"] : undefined;
  if (!isObject(metrics)) return [];
  const claims = `${count(metrics, "claims_served")} served, ${count(metrics, "claims_empty")} found none, ${count(metrics, "claims_refused")} refused, ${count(metrics, "claims_waiting")} waiting`;
  const failed = count(metrics, "fills_failed");
  const spares = `${count(metrics, "fills")} set up${failed === 0 ? "" : `, ${failed} failed${lastFailure(metrics, nowMs)}`}`;
  const retired = `${count(metrics, "spares_aged")} for their age, ${count(metrics, "spares_rolled")} for another version`;
  return titled([
    ["claims", claims],
    ["", timesOf(metrics["claim_ms"], (p50, p99) => `half answered within ${milliseconds(p50)}, 99 % within ${milliseconds(p99)}`, "p99")],
    ["spares", spares],
    [
      "",
      timesOf(
        metrics["fill_seconds"],
        (p50, last) => `half ready after ${seconds(p50 * 1000)}, the last one after ${seconds(last * 1000)}`,
        "last",
      ),
    ],
    ["replaced", retired],
  ]);
}

function titled(lines: readonly (readonly [title: string, text: string])[]): string[] {
  const width = Math.max(...lines.map(([title]) => title.length));
  return lines.filter(([, text]) => text !== "").map(([title, text]) => `${title.padEnd(width)}  ${text}`);
}

function lastFailure(metrics: Record<string, unknown>, nowMs: number): string {
  const failure = metrics["last_failure"];
  if (!isObject(failure)) return "";
  const code = String(failure["code"] ?? "");
  return ` (${code} ${age(String(failure["at"] ?? ""), nowMs)} ago)`;
}

function timesOf(value: unknown, words: (p50: number, other: number) => string, other: string): string {
  const { p50, [other]: second }: Record<string, unknown> = isObject(value) ? value : {};
  return typeof p50 === "number" && typeof second === "number" ? words(p50, second) : "";
}

function milliseconds(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : seconds(ms);
}

function count(metrics: Record<string, unknown>, name: string): number {
  const value = metrics[name];
  return typeof value === "number" ? value : 0;
}
