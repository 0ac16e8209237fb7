/** `sprite exec`: runs a command in a sprite and ends with its exit code. */
import { decodeEnv, envRecord } from "../args/decoders.ts";
import { runCommand } from "../exec/run-command.ts";
import { CliError, EXIT_USAGE } from "../output/cli-error.ts";
import type { CommandContext } from "./catalogue.ts";
import { newCommand, ORG_FLAG, ORG_HELP, SPRITE_FLAG, SPRITE_HELP } from "./command.ts";
import { found } from "./not-found.ts";
import { loadVerifiedTarget } from "./server.ts";

export function build(context: CommandContext) {
  return newCommand("sprite exec", "Run a command in a sprite. Input, output and exit code are the command's.", [
    ["sprite exec -- npm test", "in the sprite of `sprite use`"],
    ["sprite exec -s dev --dir /srv -- ls -la", "somewhere else"],
    ["tar c . | sprite exec -- tar x -C /srv", "with input"],
    ["sprite exec --tty -- htop", "full-screen programs"],
  ])
    .argument("<command...>", "the command and its arguments; no shell reads them")
    .passThroughOptions()
    .option("--dir <path>", "working directory; else the home directory")
    .option("--env <k=v,k2=v2>", "variables; may be repeated", decodeEnv)
    .option("--tty", "with a terminal; Ctrl-\\ leaves it running")
    .option("--http-post", "by one HTTP request, for networks without WebSockets")
    .option("--no-stdin", "give the command no input")
    .option("--verbose", "say more about the connection")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (argv, options) => {
      if (options.tty && options.httpPost)
        throw new CliError("--tty and --http-post exclude each other.", {
          hint: "Leave out one of them.",
          exitCode: EXIT_USAGE,
          code: "usage",
        });
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const { env = [], dir, stdin } = options;
      if (options.tty) {
        const { showTerminal, terminalCommand } = await import("./console.ts");
        context.exitCode = await showTerminal(target, (size) => terminalCommand(argv, size, { env, dir }), { quietExit: true });
        return;
      }
      const command = { argv, env: envRecord(env), dir, stdin };
      if (options.httpPost) {
        const { runCommandByPost } = await import("../exec/http-post.ts");
        context.exitCode = await found(target, runCommandByPost(target, command, { verbose: options.verbose }));
        return;
      }
      context.exitCode = await found(target, runCommand(target, command));
    });
}
