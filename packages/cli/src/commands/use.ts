/** `sprite use`: which sprite the commands of this directory mean. */
import { getOrganization, getSprite } from "../api/sprites.ts";
import { CliError } from "../output/cli-error.ts";
import { readSpriteFile, removeSpriteFile, writeSpriteFile } from "../settings/sprite-file.ts";
import type { CommandContext } from "./catalogue.ts";
import { completes, newCommand, ORG_FLAG, ORG_HELP } from "./command.ts";
import { loadVerifiedServer } from "./server.ts";

export function build(context: CommandContext) {
  const command = newCommand(
    "sprite use",
    "Choose the sprite that commands in this directory mean, by a file `.sprite`. Without a name: say which it is.",
    [
      ["sprite use dev", "commands here mean `dev`"],
      ["sprite use --unset", "forget it"],
    ],
  )
    .argument("[name]", "an existing sprite")
    .option("--unset", "remove the choice")
    .option(ORG_FLAG, ORG_HELP)
    .action(async (argument, options) => {
      const name = argument ?? context.flags.sprite;
      const dir = process.cwd();
      if (options.unset) {
        process.stdout.write(removeSpriteFile(dir) ? "no sprite is chosen here any more\n" : "no sprite was chosen here\n");
        return;
      }
      if (name === undefined) {
        const file = readSpriteFile(dir);
        if (file?.sprite === undefined)
          throw new CliError("No sprite is chosen here.", { hint: "Choose one with `sprite use NAME`.", code: "no_sprite" });
        process.stdout.write(`${file.sprite}\n`);
        return;
      }
      const server = await loadVerifiedServer({ ...context.flags, ...options });
      const sprite = await getSprite(server, name);
      writeSpriteFile(dir, { organization: sprite.organization ?? (await getOrganization(server)), sprite: sprite.name });
      process.stdout.write(`commands here mean ${sprite.name} now\n`);
    });
  return completes(command, "sprite");
}
