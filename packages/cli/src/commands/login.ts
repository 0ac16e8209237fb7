/** `sprite login`: stores a token for a server. */
import type { CommandContext } from "./catalogue.ts";
import { newCommand, ORG_FLAG } from "./command.ts";
import { signIn } from "./sign-in.ts";

export function build(context: CommandContext) {
  return newCommand(
    "sprite login",
    "Store a token for a server. It is asked for, or read from standard input. On the server's own machine no login is needed.",
    [
      ["sprite login", "the server on this machine"],
      ["sprite login https://sprites.example.com", "another one"],
      ["sprite login < token.txt", "without typing"],
    ],
  )
    .argument("[api-url]", "URL of the API")
    .option("--token <token>", "the token; others on this machine may see it in the process list")
    .option(ORG_FLAG, "organization that the token must belong to")
    .action((api, options) => signIn({ api, org: options.org ?? context.flags.org, token: options.token }));
}
