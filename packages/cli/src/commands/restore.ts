/** `sprite restore`: goes back to a save point, or back from there. */
import { checkpointsPath, followProgress } from "../api/checkpoints.ts";
import { seconds } from "../output/age.ts";
import { CliError, EXIT_USAGE } from "../output/cli-error.ts";
import { Spinner } from "../output/spinner.ts";
import { err } from "../output/style.ts";
import { printable } from "../output/text-width.ts";
import type { CommandContext } from "./catalogue.ts";
import { JSON_FLAG, newCommand, ORG_FLAG, ORG_HELP, SPRITE_FLAG, SPRITE_HELP } from "./command.ts";
import { found } from "./not-found.ts";
import { loadVerifiedTarget } from "./server.ts";

export function build(context: CommandContext) {
  return restoreCommand("sprite restore", context);
}

/** The same command below `sprite checkpoint`. */
export function restoreCommand(name: string, context: CommandContext) {
  const shown = name === "restore" ? "sprite checkpoint restore" : name;
  return newCommand(name, "Put a sprite back into a checkpoint's state. Its sessions end.", [
    [`${shown} v0`, "the state before is kept as auto-N"],
    [`${shown} --undo`, "back to the state before the last restore"],
  ])
    .argument("[id]", "the checkpoint")
    .option("--undo", "go back to the state before the last restore")
    .option(JSON_FLAG, "print the last line of the stream as JSON")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (id, options) => {
      if ((id === undefined) === (options.undo !== true)) {
        throw new CliError("Name a checkpoint, or say --undo.", {
          hint: "`sprite checkpoint list` shows them.",
          exitCode: EXIT_USAGE,
          code: "usage",
        });
      }
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const startedMs = performance.now();
      using spinner = new Spinner();
      spinner.show(`restoring ${target.sprite}`);
      const path =
        id === undefined
          ? checkpointsPath(target).replace(/checkpoints$/, "restore/undo")
          : checkpointsPath(target, `/${encodeURIComponent(id)}/restore`);
      const done = await found(
        target,
        followProgress(target, { path }, (text) => spinner.show(printable(text))),
      );
      spinner.stop();
      if (options.json) {
        process.stdout.write(`${JSON.stringify(done.raw)}\n`);
        return;
      }
      process.stdout.write(`restored ${target.sprite} to ${done.id ?? id ?? "its state"} in ${seconds(performance.now() - startedMs)}\n`);
      if (done.previous !== undefined)
        process.stderr.write(`${err("dim", `The state before is ${done.previous}; \`sprite restore --undo\` goes back to it.`)}\n`);
    });
}
