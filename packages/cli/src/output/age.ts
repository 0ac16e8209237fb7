/** How long ago something was, in words short enough for a table. Pure. */

const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1000],
] as const;

/** For example `3d`, `5m`; empty when `time` is missing or no time. */
export function age(time: string | undefined, nowMs: number): string {
  const ms = nowMs - Date.parse(time ?? "");
  if (!Number.isFinite(ms)) return "";
  for (const [unit, unitMs] of UNITS) if (ms >= unitMs) return `${Math.floor(ms / unitMs)}${unit}`;
  return "0s";
}

/** A duration such as `0.42 s` or `12.3 s`. */
export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}
