/** `sprite checkpoint`: save points of a sprite. */
import {
  type CheckpointInfo,
  checkpointsPath,
  deleteCheckpoint,
  followProgress,
  getCheckpoint,
  listCheckpoints,
} from "../api/checkpoints.ts";
import { seconds } from "../output/age.ts";
import { bytes } from "../output/bytes.ts";
import { Spinner } from "../output/spinner.ts";
import { err, out } from "../output/style.ts";
import { printable } from "../output/text-width.ts";
import type { Target } from "../settings/load.ts";
import type { CommandContext } from "./catalogue.ts";
import { checkpointFileCommands, showFiles } from "./checkpoint-files.ts";
import { checkpointTable, CURRENT } from "./checkpoint-tree.ts";
import { JSON_FLAG, newCommand, ORG_FLAG, ORG_HELP, SPRITE_FLAG, SPRITE_HELP } from "./command.ts";
import { found } from "./not-found.ts";
import { restoreCommand } from "./restore.ts";
import { loadVerifiedTarget } from "./server.ts";

const HISTORY_HELP = "only this one and what came from it";

export function build(context: CommandContext) {
  const command = newCommand("sprite checkpoint", "Save points of a sprite: made while it runs, gone back to at any time.", [
    ["sprite checkpoint create --comment clean", "save the disk now"],
    ["sprite checkpoint list", "the tree of save points"],
    ["sprite checkpoint restore v0", "go back; the state before is kept"],
  ]);
  command.addCommand(create(context));
  command.addCommand(list(context));
  command.addCommand(ls(context));
  command.addCommand(info(context));
  command.addCommand(remove(context));
  command.addCommand(restoreCommand("restore", context));
  for (const reading of checkpointFileCommands(context)) command.addCommand(reading);
  return command;
}

function create(context: CommandContext) {
  return newCommand("create", "Save the sprite's disk, and with --memory its processes.", [
    ["sprite checkpoint create", "while everything runs on"],
    ["sprite checkpoint create --memory", "to go on exactly here"],
  ])
    .option("--comment <text>", "what it is for")
    .option("--memory", "keep the running processes too")
    .option(JSON_FLAG, "print the last line of the stream as JSON")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const startedMs = performance.now();
      using spinner = new Spinner();
      spinner.show(`saving ${target.sprite}`);
      const body = {
        ...(options.comment === undefined ? {} : { comment: options.comment }),
        ...(options.memory ? { memory: true } : {}),
      };
      const path = checkpointsPath(target).replace(/s$/, "");
      const notes: string[] = [];
      const done = await found(
        target,
        followProgress(target, { path, body }, (text) => {
          spinner.show(printable(text));
          notes.push(printable(text));
        }),
      );
      spinner.stop();
      if (options.json) process.stdout.write(`${JSON.stringify(done.raw)}\n`);
      else process.stdout.write(`saved ${target.sprite} as ${done.id ?? "a checkpoint"} in ${seconds(performance.now() - startedMs)}\n`);
      if (options.memory && !done.memory) process.stderr.write(`${err("dim", notes.at(-1) ?? "")}\n`);
    });
}

function list(context: CommandContext) {
  return newCommand("list", "Draw the tree of save points: what came from what.", [
    ["sprite checkpoint list", "all of them"],
    ["sprite checkpoint list --history v2", "only v2 and what came from it"],
  ])
    .option("--history <id>", HISTORY_HELP)
    .option("--no-auto", "leave automatic ones out")
    .option("--include-auto", "automatic ones too; so by default")
    .option(JSON_FLAG, "print JSON")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (options) => showTree(await loadVerifiedTarget({ ...context.flags, ...options }), options));
}

/** Without an id the same as `list`; with one, the files in that checkpoint. */
function ls(context: CommandContext) {
  return newCommand("ls", "List save points; with an id, the files in one.", [
    ["sprite checkpoint ls", "the tree of save points"],
    ["sprite checkpoint ls v0 /etc", "a directory; the home when left out"],
  ])
    .argument("[id]", "the checkpoint")
    .argument("[path]", "absolute, or relative to the home", ".")
    .option("--history <id>", HISTORY_HELP)
    .option("--no-auto", "leave automatic ones out")
    .option("--include-auto", "automatic ones too; so by default")
    .option(JSON_FLAG, "print JSON")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (id, path, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      if (id === undefined) await showTree(target, options);
      else await showFiles(target, { id, path, json: options.json === true });
    });
}

async function showTree(target: Target, options: { history?: string | undefined; auto: boolean; json?: true | undefined }): Promise<void> {
  const checkpoints = await found(target, listCheckpoints(target, { history: options.history, includeAuto: options.auto }));
  if (options.json) {
    process.stdout.write(
      `${JSON.stringify(
        checkpoints.map(({ raw }) => raw),
        undefined,
        2,
      )}\n`,
    );
  } else if (checkpoints.some(({ id }) => id !== CURRENT)) {
    const width = process.stdout.isTTY ? process.stdout.columns : undefined;
    process.stdout.write(`${checkpointTable(checkpoints, Date.now(), width).join("\n")}\n`);
  } else process.stderr.write(`${err("dim", "There are no checkpoints yet; `sprite checkpoint create` makes one.")}\n`);
}

function info(context: CommandContext) {
  return newCommand("info", "Show one checkpoint in full.", [["sprite checkpoint info v0", "its state, size and origin"]])
    .argument("<id>", "the checkpoint")
    .option(JSON_FLAG, "print JSON")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (id, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const checkpoint = await found(target, getCheckpoint(target, id));
      if (options.json) process.stdout.write(`${JSON.stringify(checkpoint.raw, undefined, 2)}\n`);
      else process.stdout.write(`${infoLines(checkpoint).join("\n")}\n`);
    });
}

function infoLines(checkpoint: CheckpointInfo): string[] {
  const rows: [string, string | undefined][] = [
    ["id", checkpoint.id],
    ["comment", checkpoint.comment],
    ["made", checkpoint.createdAt],
    ["state", checkpoint.health === "" ? checkpoint.state : `${checkpoint.state} (${checkpoint.health})`],
    ["came from", checkpoint.source],
    ["disk", bytes(checkpoint.diskBytes)],
    ["memory", checkpoint.memory ? bytes(checkpoint.memoryBytes) : "not kept"],
  ];
  return rows
    .filter(([, value]) => value !== undefined && value !== "")
    .map(([name, value]) => `${out("dim", name.padEnd(10))}${printable(value ?? "")}`);
}

function remove(context: CommandContext) {
  return newCommand("delete", "Delete a checkpoint that nothing needs.", [["sprite checkpoint delete v0", "not the one you are on"]])
    .alias("rm")
    .argument("<id>", "the checkpoint")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (id, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      await found(target, deleteCheckpoint(target, id));
      process.stdout.write(`deleted ${id} of ${target.sprite}\n`);
    });
}
