/**
 * All commands: names, one line each, and how to load the module of one. Nothing here loads any.
 *
 * A new command is an entry here, in the group of what people want to do, and a module that exports
 * `build`, made of `newCommand` (help, flags, errors) and `completes` (what its arguments are, for
 * completion in shells). Its help must fit 80 columns and show examples; `commands.test.ts` checks.
 */
import type { GlobalFlags } from "../args/command-line.ts";

/** What a command gets. */
export interface CommandContext {
  /** Global flags that came before the command's name. */
  flags: GlobalFlags;
  /** Exit code; 0 unless the command says otherwise. */
  exitCode: number;
}

/** What every module of a command exports. */
export interface CommandModule {
  build: (context: CommandContext) => BuiltCommand;
}

/** The part of commander's command that the program uses, whatever its options. */
export interface BuiltCommand {
  parseAsync(argv: readonly string[], options: { from: "user" }): Promise<unknown>;
}

export interface CatalogueEntry {
  name: string;
  aliases: readonly string[];
  /** Arguments as the overview shows them. */
  usage: string;
  summary: string;
  load: () => Promise<CommandModule>;
}

export const CATALOGUE: ReadonlyMap<string, readonly CatalogueEntry[]> = new Map([
  [
    "Sprites",
    [
      entry("create [name]", "make a sprite and open a console in it", () => import("./create.ts")),
      entry("list, ls", "show the sprites there are", () => import("./list.ts")),
      entry("use [name]", "choose the sprite of this directory", () => import("./use.ts")),
      entry("info", "show one sprite in full", () => import("./info.ts")),
      entry("sleep [name]", "put a sprite to sleep; its memory is kept", () => import("./sleep.ts")),
      entry("wake [name]", "wake a sprite; any command does so too", () => import("./wake.ts")),
      entry("destroy [name]", "delete a sprite and everything on it", () => import("./destroy.ts")),
      entry("url", "show or change who may open its URL", () => import("./url.ts")),
      entry("config update", "change a sprite's settings", () => import("./config.ts")),
    ],
  ],
  [
    "Run commands",
    [
      entry("exec, x -- cmd…", "run a command", () => import("./exec.ts")),
      entry("console, c", "open a shell; Ctrl-\\ leaves it running", () => import("./console.ts")),
      entry("jobs list|logs|wait|…", "commands in the background: exec --background", () => import("./jobs.ts")),
      entry("sessions, s list|attach|kill", "commands that run now", () => import("./sessions.ts")),
      entry("attach [id]", "go back to a session that was left", () => import("./attach.ts")),
    ],
  ],
  [
    "Save and copy",
    [
      entry("checkpoint, checkpoints create|list|…", "save points of a sprite", () => import("./checkpoint.ts")),
      entry("restore <id>", "go back to a save point, or --undo", () => import("./restore.ts")),
      entry("fork [names…]", "make sprites that begin as this one is", () => import("./fork.ts")),
      entry("export <file>", "write a sprite into one file", () => import("./export.ts")),
      entry("import <file>", "make a sprite of such a file", () => import("./import.ts")),
      entry("template create|list|…", "prepared sprites to make others from", () => import("./template.ts")),
      entry("pool create|list|claim|…", "sprites kept ready to be taken", () => import("./pool.ts")),
    ],
  ],
  [
    "Files and ports",
    [
      entry("file push|pull|edit", "copy files to and from a sprite", () => import("./file.ts")),
      entry("proxy <port>…", "ports of a sprite on this computer", () => import("./proxy.ts")),
    ],
  ],
  [
    "Account and tools",
    [
      entry("login [api-url]", "store a token for a server", () => import("./login.ts")),
      entry("logout", "remove all settings", () => import("./logout.ts")),
      entry("org, orgs, organizations, o auth|list|logout", "tokens of organizations", () => import("./org.ts")),
      entry("auth setup", "store a token without questions", () => import("./auth.ts")),
      entry("api <path>", "call the API with curl", () => import("./api.ts")),
      entry("completion <shell>", "complete commands and names with Tab", () => import("./completion.ts")),
    ],
  ],
]);

/** `line`: the name, its aliases after commas, then what follows it. */
function entry(line: string, summary: string, load: () => Promise<CommandModule>): CatalogueEntry {
  const words = line.split(" ");
  const names = words.slice(0, words.findIndex((word) => !word.endsWith(",")) + 1).map((word) => word.replace(",", ""));
  const [name = "", ...aliases] = names;
  return { name, aliases, usage: words.slice(names.length).join(" "), summary, load };
}

/** The entry called `word`, by its name or an alias. */
export function findEntry(word: string): CatalogueEntry | undefined {
  return [...CATALOGUE.values()].flat().find((one) => one.name === word || one.aliases.includes(word));
}

/** All names and aliases. */
export function commandNames(): string[] {
  return [...CATALOGUE.values()].flat().flatMap((one) => [one.name, ...one.aliases]);
}
