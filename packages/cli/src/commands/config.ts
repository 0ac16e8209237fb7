/** `sprite config update`: changes settings of a sprite. */
import { Option } from "@commander-js/extra-typings";
import type { GlobalFlags } from "../args/command-line.ts";
import { decodeUrlAuth } from "../args/decoders.ts";
import { updateSprite } from "../api/sprites.ts";
import { CliError, EXIT_USAGE } from "../output/cli-error.ts";
import type { CommandContext } from "./catalogue.ts";
import { newCommand, ORG_FLAG, ORG_HELP, SPRITE_FLAG, SPRITE_HELP } from "./command.ts";
import { urlAccess } from "./info.ts";
import { found } from "./not-found.ts";
import { loadVerifiedTarget } from "./server.ts";

export function build(context: CommandContext) {
  const update = newCommand("update", "Change settings of a sprite; what is not named stays.", [
    ["sprite config update --url-auth public", "anyone may open the URL"],
  ])
    .option("--url-auth <who>", "public (anyone) or sprite (only with a token)", decodeUrlAuth)
    .addOption(new Option("--private-access <who>", "who counts as having a right to it").choices(["admins", "org_users"] as const))
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (options) => {
      if (options.urlAuth === undefined && options.privateAccess === undefined) {
        throw new CliError("Nothing to change.", {
          hint: "Name a setting: --url-auth or --private-access.",
          exitCode: EXIT_USAGE,
          code: "usage",
        });
      }
      await updateUrlSettings({ ...context.flags, ...options }, { auth: options.urlAuth, private_access: options.privateAccess });
    });
  const command = newCommand("sprite config", "Change the settings of a sprite.", [
    ["sprite config update -s dev --url-auth public", "anyone may open its URL"],
  ]);
  command.addCommand(update);
  return command;
}

/** Changes URL settings and says how they are now. */
export async function updateUrlSettings(
  flags: GlobalFlags,
  settings: { auth: string | undefined; private_access?: string | undefined },
): Promise<void> {
  const target = await loadVerifiedTarget(flags);
  const named = Object.entries(settings).filter((entry): entry is [string, string] => entry[1] !== undefined);
  const sprite = await found(target, updateSprite(target.server, target.sprite, { url_settings: Object.fromEntries(named) }));
  process.stdout.write(`${target.sprite}: ${urlAccess(sprite) || "changed"}\n`);
}
