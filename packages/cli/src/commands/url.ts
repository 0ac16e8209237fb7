/** `sprite url`: the address of a sprite and who may open it. */
import { getSprite } from "../api/sprites.ts";
import { decodeUrlAuth } from "../args/decoders.ts";
import { CliError } from "../output/cli-error.ts";
import { out } from "../output/style.ts";
import { printable } from "../output/text-width.ts";
import type { CommandContext } from "./catalogue.ts";
import { newCommand, ORG_FLAG, ORG_HELP, SPRITE_FLAG, SPRITE_HELP } from "./command.ts";
import { updateUrlSettings } from "./config.ts";
import { urlAccess } from "./info.ts";
import { found } from "./not-found.ts";
import { loadVerifiedTarget } from "./server.ts";

export function build(context: CommandContext) {
  const update = newCommand("update", "Change who may open the URL.", [["sprite url update -a public", "anyone"]])
    .requiredOption("-a, --auth <who>", "public (anyone) or sprite (only with a token)", decodeUrlAuth)
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (options) => updateUrlSettings({ ...context.flags, ...options }, { auth: options.auth }));
  const command = newCommand("sprite url", "Show the URL of a sprite and who may open it.", [
    ["sprite url", "of the sprite of this directory"],
    ["sprite url update -a sprite", "only with a token"],
  ])
    .enablePositionalOptions()
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const sprite = await found(target, getSprite(target.server, target.sprite));
      if (sprite.url === undefined) throw new CliError(`${target.sprite} has no URL.`, { code: "no_url" });
      const access = process.stdout.isTTY ? `  ${out("dim", printable(urlAccess(sprite)))}` : `\n${printable(urlAccess(sprite))}`;
      process.stdout.write(`${printable(sprite.url)}${access.trimEnd()}\n`);
    });
  command.addCommand(update);
  return command;
}
