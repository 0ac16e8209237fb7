/** `sprite exec`: runs a command in a sprite and ends with its exit code. */
import { decodeDuration, decodeEnv, decodeFilePair, envRecord } from "../args/decoders.ts";
import { RECONNECT_FOR_MS } from "../exec/messages.ts";
import { runCommand } from "../exec/run-command.ts";
import { CliError, EXIT_USAGE } from "../output/cli-error.ts";
import { err } from "../output/style.ts";
import type { Target } from "../settings/load.ts";
import type { CommandContext } from "./catalogue.ts";
import {
  newCommand,
  ORG_FLAG,
  ORG_HELP,
  PORTS_FLAG,
  PORTS_HELP,
  RECONNECT_FLAG,
  RECONNECT_HELP,
  SPRITE_FLAG,
  SPRITE_HELP,
} from "./command.ts";
import { found } from "./not-found.ts";
import { loadVerifiedTarget } from "./server.ts";

export function build(context: CommandContext) {
  return newCommand("sprite exec", "Run a command in a sprite. Input, output and exit code are the command's.", [
    ["sprite exec -- npm test", "in the sprite of `sprite use`"],
    ["sprite exec -s dev --dir /srv -- ls -la", "somewhere else"],
    ["tar c . | sprite exec -- tar x -C /srv", "with input"],
    ["sprite exec --tty -- htop", "full-screen programs"],
    ["sprite exec --background -- make", "as a job; see `sprite jobs`"],
  ])
    .argument("<command...>", "the command and its arguments; no shell reads them")
    .passThroughOptions()
    .option("--dir <path>", "working directory; else the home directory")
    .option("--env <k=v,k2=v2>", "variables; may be repeated", decodeEnv)
    .option("--file <src:dest>", "upload a file first; may be repeated", decodeFilePair)
    .option("--tty", "with a terminal; Ctrl-\\ leaves it running")
    .option("--background", "as a job that needs no client; prints its id")
    .option("--timeout <time>", "for --background: end the job after it (10m)", decodeDuration)
    .option("--input <file>", "for --background: its input; - is standard input")
    .option("--webhook <url>", "for --background: is told of the job's end")
    .option("--key <key>", "for --background: one job only for this key")
    .option("--http-post", "by plain HTTP requests, for networks without WebSockets")
    .option("--no-stdin", "give the command no input")
    .option(PORTS_FLAG, PORTS_HELP)
    .option(RECONNECT_FLAG, RECONNECT_HELP, decodeDuration)
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
      requireBackground(options);
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      for (const { source, dest } of options.file ?? []) {
        const { pushFile } = await import("../files/push.ts");
        await found(target, pushFile({ address: target.server, sprite: target.sprite }, source, dest, { parents: true }));
      }
      if (options.background) {
        const { startInBackground } = await import("../jobs/start.ts");
        await found(target, startInBackground(target, argv, options));
        return;
      }
      const { env = [], dir, stdin, reconnectFor: reconnectForMs = RECONNECT_FOR_MS } = options;
      if (options.tty) {
        const { portsBeside, showTerminal, terminalCommand } = await import("./console.ts");
        const beside = options.portForward ? await portsBeside(target) : undefined;
        context.exitCode = await showTerminal(target, (size) => terminalCommand(argv, size, { env, dir }), {
          quietExit: true,
          reconnectForMs,
          beside,
        });
        return;
      }
      const command = { argv, env: envRecord(env), dir, stdin };
      if (options.httpPost) {
        const { runCommandByPost } = await import("../exec/http-post.ts");
        context.exitCode = await found(target, runCommandByPost(target, command, { reconnectForMs, verbose: options.verbose }));
        return;
      }
      await using _ports = options.portForward ? await forwardQuietly(target) : undefined;
      context.exitCode = await found(target, runCommand(target, command, { reconnectForMs }));
    });
}

/** Forwards new ports while a command runs (PORT-5). What is not read by people holds nothing of ours. */
async function forwardQuietly(target: Target): Promise<AsyncDisposable> {
  const { forwardNewPorts } = await import("../ports/forwarder.ts");
  return forwardNewPorts(target, {
    say: (line) => {
      if (process.stderr.isTTY) process.stderr.write(`${err("dim", line)}\n`);
    },
  });
}

/** Options that only a job has, and those that it has not. */
function requireBackground(options: Readonly<Record<string, unknown>>): void {
  const wrong = (options["background"] ? ["tty", "httpPost"] : ["timeout", "input", "webhook", "key"]).find(
    (name) => options[name] !== undefined,
  );
  if (wrong === undefined) return;
  const flag = `--${wrong.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  throw new CliError(options["background"] ? `${flag} and --background exclude each other.` : `${flag} is only for --background.`, {
    hint: options["background"] ? "Leave out one of them." : "Add --background, or leave it out.",
    exitCode: EXIT_USAGE,
    code: "usage",
  });
}
