/** `sprite auth setup`: stores a token without questions. */
import type { CommandContext } from "./catalogue.ts";
import { newCommand, ORG_FLAG } from "./command.ts";
import { signIn } from "./sign-in.ts";

export function build(context: CommandContext) {
  const setup = newCommand("setup", "Store a token without questions, for scripts.", [
    ['sprite auth setup --token "$TOKEN"', "the server of SPRITES_API_URL"],
  ])
    .argument("[api-url]", "URL of the API; else SPRITES_API_URL, else this machine")
    .requiredOption("--token <token>", "the token; others on this machine may see it in the process list")
    .option(ORG_FLAG, "organization that the token must belong to")
    .action((api, options) => signIn({ api, org: options.org ?? context.flags.org, token: options.token }));
  const command = newCommand("sprite auth", "Set up access without questions.", [
    ['sprite auth setup --token "$TOKEN"', "for scripts; people use `sprite login`"],
  ]);
  command.addCommand(setup);
  return command;
}
