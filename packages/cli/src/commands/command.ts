/** How every command of the CLI is made: the same help, the same flags, errors as exceptions. */
import { Command } from "@commander-js/extra-typings";
import { styleText } from "node:util";

/** Widest help, columns. */
const HELP_WIDTH = 80;

export const ORG_FLAG = "-o, --org <name>";
export const ORG_HELP = "organization, or api:organization";
export const SPRITE_FLAG = "-s, --sprite <name>";
export const SPRITE_HELP = "the sprite; else the one of .sprite here";
export const JSON_FLAG = "--json";
export const PORTS_FLAG = "--no-port-forward";
export const PORTS_HELP = "leave ports that are opened in the sprite there";
export const RECONNECT_FLAG = "--reconnect-for <time>";
export const RECONNECT_HELP = "how long to try after a lost connection (5m; 0: not)";

/** What a word on the command line can be, for completion in shells. */
export type WordKind = "sprite" | "session" | "job" | "organization" | "shell" | "command" | "file" | "text";

const WORD_KINDS = new WeakMap<object, readonly WordKind[]>();

/**
 * Says what the arguments of `command` are, in their order, so that shells can complete them; the
 * last kind also holds for what follows. Without it nothing is offered. `-s` and `-o` need nothing.
 */
export function completes<C extends object>(command: C, ...kinds: readonly WordKind[]): C {
  WORD_KINDS.set(command, kinds);
  return command;
}

/** What `completes` said; `[]` when it was not called. */
export function wordKinds(command: object): readonly WordKind[] {
  return WORD_KINDS.get(command) ?? [];
}

/** A command that is shown as `sprite NAME`. `examples`: command lines with a comment each. */
export function newCommand(name: string, summary: string, examples: readonly (readonly [line: string, what: string])[] = []) {
  const command = new Command(name)
    .description(summary)
    .helpOption("-h, --help", "show this help")
    .helpCommand(false)
    .exitOverride()
    .configureOutput({
      writeErr: () => {},
      outputError: () => {},
      getOutHelpWidth: () => Math.min(process.stdout.columns || HELP_WIDTH, HELP_WIDTH),
    })
    .configureHelp({ styleTitle: (text) => styleText("bold", text, { validateStream: false }) });
  if (examples.length === 0) return command;
  const width = Math.max(...examples.map(([line]) => line.length));
  return command.addHelpText("after", `\nExamples:\n${examples.map(([line, what]) => `  ${line.padEnd(width)}  # ${what}`).join("\n")}`);
}
