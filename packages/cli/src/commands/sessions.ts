/** `sprite sessions`: commands that run in a sprite, with or without a client. */
import { callApi, streamApi } from "../api/http.ts";
import { decodeDuration } from "../args/decoders.ts";
import { age } from "../output/age.ts";
import { CliError } from "../output/cli-error.ts";
import { err, out } from "../output/style.ts";
import { renderTable } from "../output/table.ts";
import { printable } from "../output/text-width.ts";
import { isObject } from "../settings/files.ts";
import type { Target } from "../settings/load.ts";
import { build as attach } from "./attach.ts";
import type { CommandContext } from "./catalogue.ts";
import { completes, JSON_FLAG, newCommand, ORG_FLAG, ORG_HELP, SPRITE_FLAG, SPRITE_HELP } from "./command.ts";
import { found } from "./not-found.ts";
import { loadVerifiedTarget } from "./server.ts";
import { isShellCommand } from "./shell-script.ts";

export function build(context: CommandContext) {
  const command = newCommand("sprite sessions", "Commands that run in a sprite, with or without a client.", [
    ["sprite sessions list", "what runs"],
    ["sprite sessions attach 12", "go back to one"],
    ["sprite sessions kill 12", "end one"],
  ]);
  command.addCommand(list(context));
  command.addCommand(attach(context).name("attach"));
  command.addCommand(kill(context));
  return command;
}

type Session = Record<string, unknown>;

function list(context: CommandContext) {
  return newCommand("list", "Show the sessions that run.", [["sprite sessions ls --json", "for programs"]])
    .alias("ls")
    .option(JSON_FLAG, "print JSON")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const answer = await found(target, callApi(target.server, { method: "GET", path: sessionsPath(target) }));
      const sessions = (isObject(answer) && Array.isArray(answer["sessions"]) ? answer["sessions"] : []).filter(isObject);
      if (options.json) process.stdout.write(`${JSON.stringify(sessions, undefined, 2)}\n`);
      else if (sessions.length > 0) process.stdout.write(`${table(sessions).join("\n")}\n`);
      else process.stderr.write(`${err("dim", `Nothing runs in ${target.sprite}; background jobs are in \`sprite jobs list\`.`)}\n`);
    });
}

function table(sessions: readonly Session[]): string[] {
  const nowMs = Date.now();
  const time = (value: unknown): string => age(typeof value === "string" ? value : undefined, nowMs);
  return renderTable<Session>(
    [
      { title: "ID", cell: ({ id }) => String(id), paint: (text) => out("bold", text) },
      { title: "TTY", cell: ({ tty }) => (tty === true ? "yes" : "no") },
      { title: "AGE", cell: ({ created }) => time(created) },
      { title: "LAST OUTPUT", cell: ({ last_activity }) => time(last_activity) },
      { title: "COMMAND", cell: ({ command }) => commandText(String(command ?? "")) },
    ],
    sessions,
    { ...(process.stdout.isTTY ? { width: process.stdout.columns } : {}), paintTitle: (text) => out("dim", text) },
  );
}

/** One line; the script of a console says nothing to people. */
function commandText(command: string): string {
  return isShellCommand(command) ? "console" : command.replace(/\s+/g, " ");
}

function kill(context: CommandContext) {
  const command = newCommand("kill", "Signal a session's command and wait for its end; then it gets KILL.", [
    ["sprite sessions kill 12", "TERM, KILL after 10 s"],
    ["sprite sessions kill --signal INT --timeout 0 12", "only signal"],
  ])
    .argument("<id>", "the session")
    .option("--signal <name>", "the signal", "TERM")
    .option("--timeout <time>", "before it gets KILL; 0: do not wait", decodeDuration)
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (id, options) => {
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      const query = new URLSearchParams({ signal: options.signal });
      if (options.timeout !== undefined) query.set("timeout", `${options.timeout}ms`);
      const path = `${sessionsPath(target)}/${encodeURIComponent(id)}/kill?${query.toString()}`;
      await found(target, showProgress(target, path));
    });
  return completes(command, "session");
}

async function showProgress(target: Target, path: string): Promise<void> {
  for await (const line of streamApi(target.server, { method: "POST", path })) {
    if (!isObject(line) || typeof line["message"] !== "string") continue;
    const message = printable(line["message"]);
    if (line["type"] === "error") throw new CliError(message, { code: "kill_failed" });
    process.stdout.write(`${message}\n`);
  }
}

function sessionsPath(target: Target): string {
  return `/v1/sprites/${encodeURIComponent(target.sprite)}/exec`;
}
