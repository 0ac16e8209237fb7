/** `sprite console`: a shell in a sprite on the user's terminal. */
import type { ExecWhat } from "@sprited/protocol/client/exec";
import { decodeDuration, envRecord } from "../args/decoders.ts";
import { attachLine, RECONNECT_FOR_MS } from "../exec/messages.ts";
import { runTerminal, type TerminalEnd, type TerminalOptions } from "../exec/run-terminal.ts";
import { signalExitCode } from "../exec/signals.ts";
import { CliError, EXIT_FAILURE } from "../output/cli-error.ts";
import { describeError } from "../output/report.ts";
import { err } from "../output/style.ts";
import { terminalVariables } from "../settings/environment.ts";
import type { Target } from "../settings/load.ts";
import type { Size } from "../terminal/screen.ts";
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
import { SHELL_ARGV } from "./shell-script.ts";

export function build(context: CommandContext) {
  return newCommand("sprite console", "Open a shell in a sprite. Ctrl-\\ leaves it running; `sprite attach` goes back to it.", [
    ["sprite console", "in the sprite chosen with `sprite use`"],
    ["sprite c -s dev", "in the sprite `dev`"],
  ])
    .option(RECONNECT_FLAG, RECONNECT_HELP, decodeDuration)
    .option(PORTS_FLAG, PORTS_HELP)
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (options) => {
      if (!process.stdin.isTTY || !process.stdout.isTTY) {
        throw new CliError("A console needs a terminal on standard input and output.", {
          hint: "For scripts use `sprite exec -- command`.",
          code: "no_terminal",
        });
      }
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      context.exitCode = await openConsole(target, options);
    });
}

/** Opens a shell and says at the end what happened. Returns the exit code. */
export async function openConsole(
  target: Target,
  {
    reconnectFor: reconnectForMs = RECONNECT_FOR_MS,
    portForward = true,
  }: { reconnectFor?: number | undefined; portForward?: boolean } = {},
): Promise<number> {
  const beside = portForward ? await portsBeside(target) : undefined;
  return showTerminal(target, (size) => terminalCommand(SHELL_ARGV, size), { reconnectForMs, beside });
}

/** Shows a terminal session until it ends one way or another; returns the exit code. */
export async function showTerminal(target: Target, makeWhat: (size: Size) => ExecWhat, options: TerminalOptions): Promise<number> {
  const { end, sessionId } = await found(target, runTerminal(target, makeWhat, options));
  const message = endMessage(end, target, sessionId);
  if (message !== undefined && !(options.quietExit && end.kind === "exit")) process.stderr.write(`${message}\n`);
  return endCode(end);
}

/** What forwards new ports beside a terminal session (PORT-5). */
export async function portsBeside(target: Target): Promise<NonNullable<TerminalOptions["beside"]>> {
  const { forwardNewPorts } = await import("../ports/forwarder.ts");
  return (say) => forwardNewPorts(target, { say });
}

/** A command on a terminal of the given size, told what terminal the user has. */
export function terminalCommand(
  argv: readonly string[],
  tty: Size,
  more: { env?: readonly string[]; dir?: string | undefined } = {},
): ExecWhat {
  return { kind: "command", argv, tty, stdin: true, dir: more.dir, env: envRecord([...terminalVariables(), ...(more.env ?? [])]) };
}

/** The line that says what happened; undefined when nobody is there to read it. */
function endMessage(end: TerminalEnd, target: Target, sessionId: string | undefined): string | undefined {
  const back = sessionId === undefined ? "" : `reattach with ${err("bold", attachLine(target.sprite, sessionId))}`;
  switch (end.kind) {
    case "exit":
      return err("dim", `left ${target.sprite}${end.code === 0 ? "" : ` (exit code ${end.code})`}`);
    case "detached":
      return `detached from ${target.sprite}; ${back}`;
    case "gave_way":
      return `left ${target.sprite} while the connection was lost; ${back}`;
    case "lost":
      return `${err("red", "connection lost:")} ${describeError(end.error).message.replace(/\.$/, "")}; ${back}`;
    case "signal":
      return sessionId === undefined ? undefined : `left ${target.sprite} on ${end.name}; ${back}`;
    case "unread":
      return undefined;
  }
}

function endCode(end: TerminalEnd): number {
  switch (end.kind) {
    case "exit":
      return end.code;
    case "detached":
      return 0;
    case "gave_way":
      return signalExitCode("SIGINT");
    case "lost":
      return EXIT_FAILURE;
    case "signal":
      return signalExitCode(end.name);
    case "unread":
      return signalExitCode("SIGPIPE");
  }
}
