/** The tree of a sprite's save points as lines of a table: what came from what, and where the sprite is now. Pure. */
import type { CheckpointInfo } from "../api/checkpoints.ts";
import { age } from "../output/age.ts";
import { bytes } from "../output/bytes.ts";
import { out } from "../output/style.ts";
import { type Column, renderTable } from "../output/table.ts";

/** The entry that stands for the present state. */
export const CURRENT = "Current";

export interface TreeLine {
  /** Branches as they are drawn, then the id. */
  label: string;
  checkpoint: CheckpointInfo;
}

/**
 * Every checkpoint once, each below the one it came from, older before newer. One whose origin is
 * not in the list is drawn as a root.
 */
export function treeLines(checkpoints: readonly CheckpointInfo[]): TreeLine[] {
  const known = new Set(checkpoints.map(({ id }) => id));
  const oldestFirst = [...checkpoints].reverse().sort((a, b) => Number(a.id === CURRENT) - Number(b.id === CURRENT));
  const children = new Map<string | undefined, CheckpointInfo[]>();
  for (const checkpoint of oldestFirst) {
    const source = checkpoint.source !== undefined && known.has(checkpoint.source) ? checkpoint.source : undefined;
    children.set(source, [...(children.get(source) ?? []), checkpoint]);
  }
  const lines: TreeLine[] = [];
  const drawn = new Set<string>();
  const draw = (of: CheckpointInfo, own: string, below: string): void => {
    if (drawn.has(of.id)) return;
    drawn.add(of.id);
    lines.push({ label: own + (of.id === CURRENT ? "● now" : of.id), checkpoint: of });
    const next = children.get(of.id) ?? [];
    // A single line of descent stays in one column; branches go to the right.
    next.forEach((child, index) => {
      const isLast = index === next.length - 1;
      draw(child, `${below}${isLast ? "└─ " : "├─ "}`, `${below}${isLast ? "   " : "│  "}`);
    });
  };
  for (const root of children.get(undefined) ?? []) draw(root, "", "");
  for (const rest of oldestFirst) draw(rest, "", "");
  return lines;
}

export function checkpointTable(checkpoints: readonly CheckpointInfo[], nowMs: number, width?: number): string[] {
  const columns: Column<TreeLine>[] = [
    {
      title: "CHECKPOINT",
      cell: ({ label }) => label,
      paint: (text, { checkpoint }) => out(checkpoint.id === CURRENT ? "green" : checkpoint.isAuto ? "dim" : "bold", text),
    },
    {
      title: "STATE",
      cell: ({ checkpoint }) => stateText(checkpoint),
      paint: (text, { checkpoint }) => out(checkpoint.state === "failed" ? "red" : checkpoint.state === "complete" ? "green" : "dim", text),
    },
    { title: "AGE", cell: ({ checkpoint }) => (checkpoint.id === CURRENT ? "" : age(checkpoint.createdAt, nowMs)) },
    { title: "DISK", cell: ({ checkpoint }) => (checkpoint.diskBytes > 0 ? bytes(checkpoint.diskBytes) : "") },
    { title: "MEMORY", cell: ({ checkpoint }) => (checkpoint.memory ? bytes(checkpoint.memoryBytes) : "") },
    { title: "COMMENT", cell: ({ checkpoint }) => checkpoint.comment },
  ];
  return renderTable(columns, treeLines(checkpoints), {
    paintTitle: (text) => out("dim", text),
    ...(width === undefined ? {} : { width }),
  });
}

function stateText(checkpoint: CheckpointInfo): string {
  if (checkpoint.id === CURRENT) return "";
  return checkpoint.health === "" ? (checkpoint.state ?? "") : `${checkpoint.state ?? ""} (${checkpoint.health})`;
}
