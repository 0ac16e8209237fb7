/** `sprite file`: files and directories between this computer and a sprite. */
import { bytesText } from "../files/progress.ts";
import type { TreeResult } from "../files/tree/result.ts";
import { err } from "../output/style.ts";
import { printable } from "../output/text-width.ts";
import type { Target } from "../settings/load.ts";
import type { CommandContext } from "./catalogue.ts";
import { newCommand, ORG_FLAG, ORG_HELP, SPRITE_FLAG, SPRITE_HELP } from "./command.ts";
import { found } from "./not-found.ts";
import { loadVerifiedTarget } from "./server.ts";

const RECURSIVE_HELP = "a directory with everything in it";
const PARENTS_HELP = "make missing directories";
/** Names that are shown of what was left out. */
const SKIPPED_SHOWN = 10;

export function build(context: CommandContext) {
  const command = newCommand("sprite file", "Copy files to and from a sprite. Paths in the sprite are absolute, or relative to its home.", [
    ["sprite file push notes.txt /tmp/", "one file into a directory"],
    ["sprite file push -r ./app app", "the content of a directory"],
    ["sprite file pull -r app/dist ./dist", "and back"],
    ["sprite file edit .bashrc", "in your own editor"],
  ]);
  command.addCommand(push(context));
  command.addCommand(pull(context));
  command.addCommand(edit(context));
  return command;
}

function push(context: CommandContext) {
  return newCommand("push", "Copy a file into a sprite.", [
    ["sprite file push app.tar.gz /srv/", "keeps its name"],
    ["sprite file push -r ./app app", "a directory"],
    ["date | sprite file push - now.txt", "from standard input"],
  ])
    .argument("<local>", "file or directory here; - is standard input")
    .argument("<remote>", "path in the sprite")
    .option("-r, --recursive", RECURSIVE_HELP)
    .option("-p, --parents", PARENTS_HELP)
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (local, remote, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const parents = options.parents ?? false;
      if (options.recursive) {
        const { pushTree } = await import("../files/tree/push.ts");
        say(await found(target, pushTree(remoteOf(target), local, remote, { parents })), "sent");
      } else {
        const { pushFile } = await import("../files/push.ts");
        say({ files: 1, bytes: await found(target, pushFile(remoteOf(target), local, remote, { parents })), kept: 0, skipped: [] }, "sent");
      }
    });
}

function pull(context: CommandContext) {
  return newCommand("pull", "Copy a file out of a sprite.", [
    ["sprite file pull /var/log/app.log .", "into this directory"],
    ["sprite file pull -r app/dist ./dist", "a directory"],
    ["sprite file pull data.csv - | head", "to standard output"],
  ])
    .argument("<remote>", "path in the sprite")
    .argument("<local>", "file or directory here; - is standard output")
    .option("-r, --recursive", RECURSIVE_HELP)
    .option("-p, --parents", PARENTS_HELP)
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (remote, local, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const parents = options.parents ?? false;
      if (options.recursive) {
        const { pullTree } = await import("../files/tree/pull.ts");
        const result = await found(target, pullTree(remoteOf(target), remote, local, { parents }));
        say(result, "fetched");
        if (result.skipped.some((line) => !line.startsWith("EINVAL "))) context.exitCode = 1;
      } else {
        const { pullFile } = await import("../files/pull.ts");
        const bytes = await found(target, pullFile(remoteOf(target), remote, local, { parents }));
        say({ files: 1, bytes, kept: 0, skipped: [] }, "fetched");
      }
    });
}

function edit(context: CommandContext) {
  return newCommand("edit", "Edit a file of a sprite in $VISUAL or $EDITOR. It is saved only if nobody changed it meanwhile.", [
    ["sprite file edit .bashrc", "in the sprite's home"],
  ])
    .argument("<remote>", "path in the sprite")
    .option("-p, --parents", PARENTS_HELP)
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (remote, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const { editFile } = await import("../files/edit.ts");
      const isChanged = await found(target, editFile(remoteOf(target), remote, { parents: options.parents ?? false }));
      if (process.stderr.isTTY) process.stderr.write(`${isChanged ? `saved ${printable(remote)}` : "not changed"}\n`);
    });
}

function remoteOf({ server, sprite }: Target) {
  return { address: server, sprite };
}

/** A line for people, and in any case what is missing. */
function say(result: Readonly<TreeResult>, verb: string): void {
  for (const line of result.skipped.slice(0, SKIPPED_SHOWN)) process.stderr.write(`${err("yellow", "left out")} ${printable(line)}\n`);
  const more = result.skipped.length - SKIPPED_SHOWN;
  if (more > 0) process.stderr.write(`${err("yellow", "left out")} ${more} more\n`);
  if (!process.stderr.isTTY) return;
  const what = result.files === 1 ? "" : `${result.files} files, `;
  const kept = result.kept === 0 ? "" : `, ${result.kept === result.files ? "all" : result.kept} of them there already`;
  process.stderr.write(`${verb} ${what}${bytesText(result.bytes)}${kept}\n`);
}
