/** `sprite api`: curl with the token of the chosen server. */
// oxlint-disable-next-line house/no-raw-spawn -- curl takes over our input and output; run() of base is not for the CLI
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { closeSync, openSync, unlinkSync, writeSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { onSignals } from "../exec/signals.ts";
import { CliError, EXIT_SIGNAL_BASE, EXIT_USAGE } from "../output/cli-error.ts";
import type { CommandContext } from "./catalogue.ts";
import { newCommand, ORG_FLAG, ORG_HELP } from "./command.ts";
import { loadVerifiedServer } from "./server.ts";

export function build(context: CommandContext) {
  return newCommand("sprite api", "Call the API with curl, authenticated. With -s the path is relative to the sprite.", [
    ["sprite api /v1/sprites", "the list of sprites"],
    ["sprite api -s dev /check", "a call on the sprite `dev`"],
    ["sprite api /v1/sprites -- -i", "options of curl"],
  ])
    .argument("<path>", "path and query, from the API's base or, with -s, from the sprite")
    .argument("[curl-options...]", "after --; handed to curl")
    .passThroughOptions()
    .option(ORG_FLAG, ORG_HELP)
    .option("-s, --sprite <name>", "make the path relative to this sprite")
    .action(async (path, curlOptions, options) => {
      const flags = { ...context.flags, ...options };
      const server = await loadVerifiedServer(flags);
      const url = apiAddress(server.apiUrl, path, flags.sprite);
      // `--` after the path is commander's to remove only when it comes first.
      const extra = curlOptions[0] === "--" ? curlOptions.slice(1) : curlOptions;
      context.exitCode = await curl(
        ["--silent", "--show-error", "--config", "/dev/fd/3", "--url", url, ...extra],
        `header = "Authorization: Bearer ${quoted(server.token)}"\n`,
      );
    });
}

/** The URL to call. A whole URL is refused: the token is not for other servers. */
export function apiAddress(apiUrl: string, path: string, sprite: string | undefined): string {
  if (/^[a-z][a-z0-9+.-]*:/i.test(path) || path.startsWith("//")) {
    throw new CliError("Give a path, not a whole URL: the token must not go to another server.", {
      hint: "Choose the server with -o or SPRITES_API_URL.",
      exitCode: EXIT_USAGE,
      code: "usage",
    });
  }
  const absolute = path === "" || path.startsWith("/") || path.startsWith("?") ? path : `/${path}`;
  return sprite === undefined
    ? `${apiUrl}${absolute}`
    : `${apiUrl}/v1/sprites/${encodeURIComponent(sprite)}${absolute === "/" ? "" : absolute}`;
}

/** A text inside double quotes of a curl config file. */
function quoted(text: string): string {
  return text.replace(/[\\"]/g, (character) => `\\${character}`);
}

/**
 * Runs curl with a config on descriptor 3: the token is in no argument list, where others could
 * read it, and standard input stays free for `-d @-`. Returns curl's exit code.
 */
async function curl(args: readonly string[], config: string): Promise<number> {
  const file = namelessFile(config);
  const child = spawn("curl", args, { stdio: ["inherit", "inherit", "inherit", file] });
  const stopListening = onSignals((name) => child.kill(name));
  try {
    return await new Promise<number>((resolve, reject) => {
      child.on("error", (cause) => reject(new CliError("curl could not be started.", { hint: "Install curl.", code: "no_curl", cause })));
      child.on("exit", (code, signal) => resolve(code ?? EXIT_SIGNAL_BASE + (signal ? constants.signals[signal] : 0)));
    });
  } finally {
    stopListening();
    closeSync(file);
  }
}

/**
 * Descriptor of a private file that has no name any more. Not a pipe: Node's pipes to children are
 * sockets, which cannot be opened as /dev/fd/3.
 */
function namelessFile(content: string): number {
  const path = join(tmpdir(), `sprite-${randomUUID()}`);
  const file = openSync(path, "wx+", 0o600);
  unlinkSync(path);
  writeSync(file, content);
  return file;
}
