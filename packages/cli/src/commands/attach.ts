/** `sprite attach`: goes back to a terminal session that was left. */
import { listSessions } from "../api/sprites.ts";
import { CliError } from "../output/cli-error.ts";
import { printable } from "../output/text-width.ts";
import type { Target } from "../settings/load.ts";
import type { CommandContext } from "./catalogue.ts";
import { completes, newCommand, ORG_FLAG, ORG_HELP, SPRITE_FLAG, SPRITE_HELP } from "./command.ts";
import { showTerminal } from "./console.ts";
import { loadVerifiedTarget } from "./server.ts";

/** Longest command shown in the list of sessions, characters. */
const COMMAND_SHOWN = 60;

export function build(context: CommandContext) {
  const command = newCommand(
    "sprite attach",
    "Go back to a session that was left with Ctrl-\\ or lost. Without an id: the only one there is.",
    [
      ["sprite attach -s dev", "the only session of `dev`"],
      ["sprite attach 12", "session 12"],
    ],
  )
    .argument("[id]", "the session, as shown when it was left")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (id, options) => {
      if (!process.stdin.isTTY || !process.stdout.isTTY) {
        throw new CliError("Attaching needs a terminal on standard input and output.", {
          hint: "Run it in a terminal.",
          code: "no_terminal",
        });
      }
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const sessionId = id ?? (await onlySession(target));
      context.exitCode = await showTerminal(target, () => ({ kind: "attach", sessionId }));
    });
  return completes(command, "session");
}

async function onlySession(target: Target): Promise<string> {
  const sessions = (await listSessions(target.server, target.sprite)).filter((session) => session.tty);
  const [first, ...others] = sessions;
  if (first && others.length === 0) return first.id;
  if (!first)
    throw new CliError(`${target.sprite} has no terminal session.`, {
      hint: `Open one with \`sprite console -s ${target.sprite}\`.`,
      code: "no_session",
    });
  const list = sessions.map(({ id, command }) => `${id} (${printable(command.replace(/\s+/g, " ")).slice(0, COMMAND_SHOWN)})`).join(", ");
  throw new CliError(`${target.sprite} has several sessions: ${list}.`, {
    hint: "Name one: `sprite attach ID`.",
    code: "several_sessions",
  });
}
