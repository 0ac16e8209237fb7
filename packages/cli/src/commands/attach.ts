/** `sprite attach`: goes back to a session that was left. */
import { callApi } from "../api/http.ts";
import { listSessions, type SessionSummary } from "../api/sprites.ts";
import { decodeDuration } from "../args/decoders.ts";
import { RECONNECT_FOR_MS } from "../exec/messages.ts";
import { rejoinCommand } from "../exec/run-command.ts";
import { ApiError } from "@sprited/protocol/errors";
import { CliError } from "../output/cli-error.ts";
import { printable } from "../output/text-width.ts";
import { isObject } from "../settings/files.ts";
import type { Target } from "../settings/load.ts";
import type { CommandContext } from "./catalogue.ts";
import { completes, newCommand, ORG_FLAG, ORG_HELP, RECONNECT_FLAG, RECONNECT_HELP, SPRITE_FLAG, SPRITE_HELP } from "./command.ts";
import { showTerminal } from "./console.ts";
import { loadVerifiedTarget } from "./server.ts";

/** Longest command shown in the list of sessions, characters. */
const COMMAND_SHOWN = 60;

export function build(context: CommandContext) {
  const command = newCommand(
    "sprite attach",
    "Go back to a session that was left with Ctrl-\\ or lost. Without an id: the only one with a terminal.",
    [
      ["sprite attach -s dev", "the only session of `dev`"],
      ["sprite attach 12", "session 12, with or without a terminal"],
      ["sprite attach 12 > build.log", "output of a command from its beginning"],
    ],
  )
    .argument("[id]", "the session, as shown when it was left")
    .option(RECONNECT_FLAG, RECONNECT_HELP, decodeDuration)
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (id, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const sessions = await listSessions(target.server, target.sprite);
      const sessionId = id ?? onlySession(target, sessions).id;
      const reconnectForMs = options.reconnectFor ?? RECONNECT_FOR_MS;
      const running = sessions.find((session) => session.id === sessionId);
      if (!(running ? running.tty : await hadTerminal(target, sessionId))) {
        context.exitCode = await rejoinCommand(target, sessionId, { reconnectForMs });
        return;
      }
      requireTerminal();
      context.exitCode = await showTerminal(target, (size) => ({ kind: "attach", sessionId, size }), { reconnectForMs });
    });
  return completes(command, "session");
}

/** Of a session that is not listed, because it has ended; servers that do not tell are asked by attaching. */
async function hadTerminal({ server, sprite }: Target, id: string): Promise<boolean> {
  const path = `/v1/sprites/${encodeURIComponent(sprite)}/exec/${encodeURIComponent(id)}`;
  const session = await callApi(server, { method: "GET", path }).catch((error: unknown) => {
    if (ApiError.is(error) && error.status === 404) return undefined;
    throw error;
  });
  return !isObject(session) || session["tty"] !== false;
}

function requireTerminal(): void {
  if (process.stdin.isTTY && process.stdout.isTTY) return;
  throw new CliError("This session needs a terminal on standard input and output.", { hint: "Run it in a terminal.", code: "no_terminal" });
}

function onlySession(target: Target, all: readonly SessionSummary[]): SessionSummary {
  const sessions = all.filter((session) => session.tty);
  const [first, ...others] = sessions;
  if (first && others.length === 0) return first;
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
