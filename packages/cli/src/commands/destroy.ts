/** `sprite destroy`: deletes a sprite for good. */
import { deleteSprite, getSprite } from "../api/sprites.ts";
import { CliError } from "../output/cli-error.ts";
import { confirm } from "../output/prompt.ts";
import { Spinner } from "../output/spinner.ts";
import type { CommandContext } from "./catalogue.ts";
import { completes, newCommand, ORG_FLAG, ORG_HELP, SPRITE_FLAG, SPRITE_HELP } from "./command.ts";
import { found } from "./not-found.ts";
import { loadVerifiedTarget } from "./server.ts";

export function build(context: CommandContext) {
  const command = newCommand("sprite destroy", "Delete a sprite and everything on its disk. This cannot be undone.", [
    ["sprite destroy dev", "asks first"],
    ["sprite destroy dev --force", "for scripts"],
  ])
    .argument("[name]", "the sprite; else -s, else the one of this directory")
    .option("--force", "do not ask")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (name, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options }, name);
      if (!options.force) {
        if (!process.stdin.isTTY)
          throw new CliError(`Will not destroy ${target.sprite} without being asked on a terminal.`, {
            hint: "Add --force.",
            code: "not_confirmed",
          });
        const sprite = await found(target, getSprite(target.server, target.sprite));
        if (
          !(await confirm(
            `Destroy ${sprite.name}${sprite.organization === undefined ? "" : ` of ${sprite.organization}`} and everything on it?`,
          ))
        ) {
          throw new CliError("Nothing was destroyed.", { code: "not_confirmed" });
        }
      }
      using spinner = new Spinner();
      spinner.show(`destroying ${target.sprite}`);
      await found(target, deleteSprite(target.server, target.sprite));
      spinner.stop();
      process.stdout.write(`destroyed ${target.sprite}\n`);
    });
  return completes(command, "sprite");
}
