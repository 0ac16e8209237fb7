/**
 * The live list of sprites. On a terminal one table that is drawn anew in place; else a line for
 * each change.
 *
 * Invariants: runs until it is interrupted; a lost stream is opened again, with a fresh list, so
 * that nothing that changed meanwhile is missed.
 */
import { ApiError } from "@sprited/protocol/errors";
import { streamApi } from "../api/http.ts";
import { listPath, listSprites, readSprite, type SpriteInfo } from "../api/sprites.ts";
import { describeError } from "../output/report.ts";
import { err } from "../output/style.ts";
import { printable } from "../output/text-width.ts";
import { isObject } from "../settings/files.ts";
import type { Server } from "../settings/target.ts";
import { spriteTable } from "./sprite-table.ts";

/** Pause before a lost stream is opened again, ms; doubles up to `RETRY_MS_MAX`. */
const RETRY_MS = 1000;
const RETRY_MS_MAX = 30_000;
/** How often the table is drawn anew for the ages in it, ms. */
const REDRAW_MS = 10_000;
/** Changes that come closer together are drawn once, ms. */
const GATHER_MS = 50;

export interface WatchOptions {
  prefix: string | undefined;
  json: boolean;
}

/** Never resolves; throws when the server refuses. */
export async function watchSprites(server: Server, options: WatchOptions): Promise<never> {
  const view = options.json ? new JsonView() : process.stdout.isTTY ? new TableView() : new LineView();
  for (let retryMs = RETRY_MS; ; retryMs = Math.min(retryMs * 2, RETRY_MS_MAX)) {
    try {
      view.reset(await listSprites(server, options.prefix));
      for await (const line of streamApi(server, { method: "GET", path: listPath({ prefix: options.prefix }) })) {
        retryMs = RETRY_MS;
        if (isObject(line)) view.change(line);
      }
    } catch (error) {
      if (ApiError.is(error) && error.status < 500) throw error;
      process.stderr.write(`${err("dim", `${describeError(error).message} Trying again in ${retryMs / 1000} s.`)}\n`);
    }
    await new Promise((resolve) => setTimeout(resolve, retryMs));
  }
}

type Line = Record<string, unknown>;

interface View {
  reset(sprites: readonly SpriteInfo[]): void;
  change(line: Line): void;
}

/** What a line of the stream does to the sprites that are known. Returns the one that changed. Pure but for `known`. */
export function applyLine(known: Map<string, SpriteInfo>, line: Line): { sprite: SpriteInfo; deleted: boolean } | undefined {
  if (line["type"] === "heartbeat" || typeof line["name"] !== "string" || line["name"] === "") return undefined;
  const before = known.get(line["name"]);
  const { type, timestamp: _timestamp, org: _org, ...fields } = line;
  const sprite = readSprite({ ...before?.raw, ...fields });
  if (type === "deleted") {
    known.delete(sprite.name);
    return { sprite, deleted: true };
  }
  known.set(sprite.name, sprite);
  return before !== undefined && before.status === sprite.status ? undefined : { sprite, deleted: false };
}

class JsonView implements View {
  /** The stream begins with every sprite, so the list says nothing new. */
  reset(): void {}

  change(line: Line): void {
    if (line["type"] !== "heartbeat") process.stdout.write(`${JSON.stringify(line)}\n`);
  }
}

class LineView implements View {
  readonly #known = new Map<string, SpriteInfo>();

  reset(sprites: readonly SpriteInfo[]): void {
    for (const sprite of sprites) this.change(sprite.raw);
  }

  change(line: Line): void {
    const changed = applyLine(this.#known, line);
    if (!changed) return;
    const { sprite, deleted } = changed;
    process.stdout.write(
      `${new Date().toISOString()} ${printable(sprite.name)} ${deleted ? "destroyed" : printable(sprite.status ?? "changed")}\n`,
    );
  }
}

class TableView implements View {
  readonly #known = new Map<string, SpriteInfo>();
  #linesDrawn = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor() {
    setInterval(() => this.#draw(), REDRAW_MS);
    process.stdout.on("resize", () => {
      this.#linesDrawn = 0; // lines may have been wrapped anew: what is above cannot be counted
      this.#draw();
    });
  }

  reset(sprites: readonly SpriteInfo[]): void {
    this.#known.clear();
    for (const sprite of sprites) this.#known.set(sprite.name, sprite);
    this.#draw();
  }

  change(line: Line): void {
    const before = this.#known.size;
    const changed = applyLine(this.#known, line);
    if (changed || this.#known.size !== before) this.#timer ??= setTimeout(() => this.#draw(), GATHER_MS);
  }

  #draw(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const room = Math.max(2, (process.stdout.rows || 24) - 1);
    const sprites = [...this.#known.values()].sort((left, right) => (left.name < right.name ? -1 : 1));
    const lines = spriteTable(sprites, Date.now(), process.stdout.columns);
    if (lines.length > room) lines.splice(room - 1, lines.length, `… and ${lines.length - room + 1} more`);
    const up = this.#linesDrawn > 0 ? `\x1b[${this.#linesDrawn}A\r` : "";
    process.stdout.write(`${up}\x1b[J${lines.join("\n")}\n`);
    this.#linesDrawn = lines.length;
  }
}
