/** Sizes in words short enough for a table. Pure. */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/** For example `812 KiB`, `1.4 GiB`. */
export function bytes(count: number): string {
  let value = Math.max(0, count);
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}
