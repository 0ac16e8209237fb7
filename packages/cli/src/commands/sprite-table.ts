/** Sprites as the lines of a table. */
import type { SpriteInfo } from "../api/sprites.ts";
import { age } from "../output/age.ts";
import { out, statusFormat } from "../output/style.ts";
import { type Column, renderTable } from "../output/table.ts";

export function spriteTable(sprites: readonly SpriteInfo[], nowMs: number, width?: number): string[] {
  const columns: Column<SpriteInfo>[] = [
    { title: "NAME", cell: (sprite) => sprite.name, paint: (text) => out("bold", text) },
    {
      title: "STATUS",
      cell: (sprite) => (sprite.failure === undefined ? (sprite.status ?? "") : "failed"),
      paint: (text, sprite) => out(sprite.failure === undefined ? statusFormat(sprite.status) : "red", text),
    },
    { title: "AGE", cell: (sprite) => age(sprite.createdAt, nowMs) },
    { title: "LABELS", cell: (sprite) => sprite.labels.join(",") },
    { title: "URL", cell: (sprite) => sprite.url ?? "" },
  ];
  return renderTable(columns, sprites, { paintTitle: (text) => out("dim", text), ...(width === undefined ? {} : { width }) });
}
