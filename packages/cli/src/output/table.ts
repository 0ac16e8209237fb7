/** Tables of aligned columns. Pure. */
import { printable, textWidth } from "./text-width.ts";

export interface Column<Row> {
  title: string;
  cell: (row: Row) => string;
  /** Adds colour to a cell that has its final width. */
  paint?: (text: string, row: Row) => string;
}

const GAP = "  ";

/**
 * Lines of a table: titles, then rows. A column in which every cell is empty is left out; the last
 * column is not padded. With `width` the last column is shortened so that no line is longer.
 */
export function renderTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  options: { width?: number; paintTitle?: (text: string) => string } = {},
): string[] {
  const cells = rows.map((row) => columns.map((column) => printable(column.cell(row))));
  const shown = columns
    .map((column, index) => ({ column, index }))
    .filter(({ index }) => rows.length === 0 || cells.some((line) => line[index] !== ""));
  const widths = new Map(
    shown.map(({ column, index }) => [index, Math.max(textWidth(column.title), ...cells.map((line) => textWidth(line[index] ?? "")))]),
  );
  const last = shown.at(-1)?.index;
  if (options.width !== undefined && last !== undefined) {
    const before = shown.filter(({ index }) => index !== last).reduce((sum, { index }) => sum + (widths.get(index) ?? 0) + GAP.length, 0);
    widths.set(last, Math.max(textWidth(columns[last]?.title ?? ""), Math.min(widths.get(last) ?? 0, options.width - before)));
  }
  const place = (text: string, index: number): string => {
    const fitted = shorten(text, widths.get(index) ?? 0);
    return index === last ? fitted : fitted + " ".repeat(Math.max(0, (widths.get(index) ?? 0) - textWidth(fitted)));
  };
  const paintTitle = options.paintTitle ?? ((text: string) => text);
  const head = shown.map(({ column, index }) => paintTitle(place(column.title, index))).join(GAP);
  const body = rows.map((row, line) =>
    shown
      .map(({ column, index }) => {
        const text = place(cells[line]?.[index] ?? "", index);
        return column.paint ? column.paint(text, row) : text;
      })
      .join(GAP)
      .trimEnd(),
  );
  return [head.trimEnd(), ...body];
}

function shorten(text: string, width: number): string {
  if (textWidth(text) <= width) return text;
  let kept = "";
  for (const character of text) {
    if (textWidth(kept + character) > width - 1) break;
    kept += character;
  }
  return `${kept}…`;
}
