/** `sprite checkpoint ls|cat|pull|diff`: what is in a save point, without going back to it. */
import { checkpointsPath } from "../api/checkpoints.ts";
import { callApi, streamApi } from "../api/http.ts";
import { ConnectionError } from "@sprited/protocol/client/errors";
import { ApiError, isErrorCode } from "@sprited/protocol/errors";
import { callPath } from "../files/remote.ts";
import { bytes } from "../output/bytes.ts";
import { Spinner } from "../output/spinner.ts";
import { err, out } from "../output/style.ts";
import { type Column, renderTable } from "../output/table.ts";
import { printable } from "../output/text-width.ts";
import { isObject } from "../settings/files.ts";
import type { Target } from "../settings/load.ts";
import type { CommandContext } from "./catalogue.ts";
import { JSON_FLAG, newCommand, ORG_FLAG, ORG_HELP, SPRITE_FLAG, SPRITE_HELP } from "./command.ts";
import { found } from "./not-found.ts";
import { loadVerifiedTarget } from "./server.ts";

/** A throwaway machine starts for the first call, ms. */
const LOOK_TIMEOUT_MS = 180_000;

export function checkpointFileCommands(context: CommandContext) {
  return [cat(context), pull(context), diff(context)];
}

interface FileRow {
  name: string;
  type: string;
  size: number;
  mode: string;
  modTime: string;
}

/** Lists a directory of a checkpoint. */
export async function showFiles(target: Target, options: { id: string; path: string; json: boolean }): Promise<void> {
  using spinner = new Spinner();
  spinner.show(`looking into ${options.id}`);
  const path = callPath(remoteOf(target, options.id), "list", { path: options.path });
  const answer = await found(target, callApi(target.server, { method: "GET", path, timeoutMs: LOOK_TIMEOUT_MS }));
  spinner.stop();
  if (options.json) process.stdout.write(`${JSON.stringify(answer, undefined, 2)}\n`);
  else
    process.stdout.write(
      fileTable(rowsOf(answer))
        .map((line) => `${line}\n`)
        .join(""),
    );
}

function cat(context: CommandContext) {
  return newCommand("cat", "Print a file of a checkpoint.", [["sprite checkpoint cat v0 .bashrc", "as it was"]])
    .argument("<id>", "the checkpoint")
    .argument("<path>", "absolute, or relative to the home")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (id, path, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const { pullFile } = await import("../files/pull.ts");
      await found(target, pullFile(remoteOf(target, id), path, "-", { parents: false }));
    });
}

function pull(context: CommandContext) {
  return newCommand("pull", "Copy a file or a directory out of a checkpoint.", [
    ["sprite checkpoint pull v0 notes.txt .", "into this directory"],
    ["sprite checkpoint pull -r v0 app ./app", "a directory"],
  ])
    .argument("<id>", "the checkpoint")
    .argument("<path>", "absolute, or relative to the home")
    .argument("<local>", "file or directory here; - is standard output")
    .option("-r, --recursive", "a directory with everything in it")
    .option("-p, --parents", "make missing directories")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (id, path, local, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const parents = options.parents ?? false;
      if (options.recursive) {
        const { pullTree } = await import("../files/tree/pull.ts");
        const { skipped } = await found(target, pullTree(remoteOf(target, id), path, local, { parents }));
        for (const line of skipped) process.stderr.write(`${err("yellow", "left out")} ${printable(line)}\n`);
        if (skipped.length > 0) context.exitCode = 1;
      } else {
        const { pullFile } = await import("../files/pull.ts");
        await found(target, pullFile(remoteOf(target, id), path, local, { parents }));
      }
    });
}

function diff(context: CommandContext) {
  return newCommand("diff", "Show which files differ between two checkpoints, with their sizes.", [
    ["sprite checkpoint diff v0 v1", "+ added, - removed, ~ changed"],
  ])
    .argument("<from>", "the earlier checkpoint")
    .argument("<to>", "the later one")
    .option(JSON_FLAG, "print a JSON object for each line")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (from, to, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      using spinner = new Spinner();
      spinner.show(`comparing ${from} and ${to}`);
      const path = checkpointsPath(target, `/${encodeURIComponent(from)}/diff?to=${encodeURIComponent(to)}`);
      let finished = false;
      for await (const line of streamApi(target.server, { method: "GET", path })) {
        if (!isObject(line)) continue;
        spinner.stop();
        if (line["type"] === "error") {
          const code = line["code"];
          throw new ApiError(isErrorCode(code) ? code : "internal", String(line["error"] ?? "the comparison failed"));
        }
        finished ||= line["type"] === "complete";
        if (options.json) process.stdout.write(`${JSON.stringify(line)}\n`);
        else if (line["type"] !== "complete") process.stdout.write(`${diffLine(line)}\n`);
        else if (process.stderr.isTTY)
          process.stderr.write(`${err("dim", `${line["added"]} added, ${line["removed"]} removed, ${line["changed"]} changed`)}\n`);
      }
      if (!finished) throw new ConnectionError("closed", "the connection ended before the comparison did");
    });
}

const MARKS = { added: ["+", "green"], removed: ["-", "red"], changed: ["~", "yellow"] } as const;

/** One difference as a line for people. */
export function diffLine(line: Record<string, unknown>): string {
  const kind = String(line["type"]);
  const [mark, colour] = kind === "added" || kind === "removed" || kind === "changed" ? MARKS[kind] : (["?", "dim"] as const);
  const [before, after] = [line["size_before"], line["size_after"]].map((size) => (typeof size === "number" ? bytes(size) : undefined));
  const sizes = line["file"] === "directory" ? "" : [before, after].filter((size) => size !== undefined).join(" → ");
  return `${out(colour, mark)} ${printable(String(line["path"]))}${line["file"] === "directory" ? "/" : ""}${sizes === "" ? "" : out("dim", `  ${sizes}`)}`;
}

function rowsOf(answer: unknown): FileRow[] {
  const entries = isObject(answer) && Array.isArray(answer["entries"]) ? answer["entries"] : [];
  return entries.filter(isObject).map((entry) => ({
    name: String(entry["name"]),
    type: String(entry["type"]),
    size: Number(entry["size"] ?? 0),
    mode: String(entry["mode"] ?? ""),
    modTime: String(entry["modTime"] ?? ""),
  }));
}

function fileTable(rows: readonly FileRow[]): string[] {
  const columns: Column<FileRow>[] = [
    { title: "MODE", cell: (row) => row.mode },
    { title: "SIZE", cell: (row) => (row.type === "file" ? bytes(row.size) : row.type) },
    { title: "CHANGED", cell: (row) => row.modTime.slice(0, 19).replace("T", " ") },
    { title: "NAME", cell: (row) => `${row.name}${row.type === "directory" ? "/" : ""}` },
  ];
  return renderTable(columns, rows, { paintTitle: (text) => out("dim", text) });
}

function remoteOf({ server, sprite }: Target, checkpoint: string) {
  return { address: server, sprite, checkpoint };
}
