/** Pools as the lines of a table, once or live. */
import { out } from "../output/style.ts";
import { renderTable } from "../output/table.ts";
import { isObject } from "../settings/files.ts";

/** How often a live table asks, ms. */
const ASK_MS = 1000;

/** A pool as its commands read it; anything may be missing. */
export interface Pool {
  name: string;
  template: string;
  ready: number;
  filling: number;
  aim: number;
  max: number;
  claimed: number;
  waiting: number;
  spare: string;
  lastError: string | undefined;
  raw: unknown;
}

export function readPool(raw: unknown): Pool {
  const value = isObject(raw) ? raw : {};
  const number = (name: string): number => (typeof value[name] === "number" ? value[name] : 0);
  const version = value["template_version"];
  const error = value["last_error"];
  return {
    name: String(value["name"] ?? ""),
    template: `${String(value["template"] ?? "")}${typeof version === "number" ? `@${version}` : " (deleted)"}`,
    ready: number("ready"),
    filling: number("filling"),
    aim: number("aim"),
    max: number("max"),
    claimed: number("claimed"),
    waiting: number("waiting"),
    spare: String(value["spare"] ?? ""),
    lastError: isObject(error) ? String(error["message"] ?? "") : undefined,
    raw,
  };
}

export function poolTable(pools: readonly Pool[]): string[] {
  return renderTable<Pool>(
    [
      { title: "NAME", cell: (pool) => pool.name, paint: (text) => out("bold", text) },
      { title: "TEMPLATE", cell: (pool) => pool.template },
      {
        title: "READY",
        cell: (pool) => `${pool.ready}/${pool.aim}`,
        paint: (text, pool) => out(pool.ready >= pool.aim ? "green" : "yellow", text),
      },
      { title: "FILLING", cell: (pool) => String(pool.filling) },
      { title: "MAX", cell: (pool) => String(pool.max) },
      { title: "CLAIMED", cell: (pool) => String(pool.claimed) },
      { title: "WAITING", cell: (pool) => (pool.waiting > 0 ? String(pool.waiting) : "") },
      { title: "SPARES", cell: (pool) => pool.spare },
      { title: "PROBLEM", cell: (pool) => pool.lastError ?? "", paint: (text) => out("red", text) },
    ],
    pools,
    { paintTitle: (text) => out("dim", text), ...(process.stdout.isTTY ? { width: process.stdout.columns } : {}) },
  );
}

/** Draws the lines anew whenever they changed. Never resolves; throws when the server refuses. */
export async function watchLines(load: () => Promise<string[]>): Promise<never> {
  let before = "";
  let linesDrawn = 0;
  for (;;) {
    const lines = await load();
    const text = lines.join("\n");
    if (text !== before) {
      const up = process.stdout.isTTY && linesDrawn > 0 ? `\x1b[${linesDrawn}A\r\x1b[J` : "";
      process.stdout.write(`${up}${text}\n`);
      before = text;
      linesDrawn = lines.length;
    }
    await new Promise((resolve) => setTimeout(resolve, ASK_MS));
  }
}
