import type { Screen } from "../setup/index.ts";

/** Standard output as the progress display needs it. */
export function openScreen(stream: NodeJS.WriteStream): Screen {
  return {
    write: (text) => void stream.write(text),
    get isTty() {
      return stream.isTTY;
    },
    get columns() {
      return stream.columns ?? 80;
    },
  };
}

/** Rows as aligned columns; the last column is not padded. Pure. */
export function renderTable(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, column) => (widths[column] = Math.max(widths[column] ?? 0, [...cell].length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
