/**
 * The one place that reads environment variables. Everything else gets plain values.
 */
import { homedir } from "node:os";
import { join } from "node:path";

export interface Environment {
  /** `SPRITE_TOKEN`: used before any stored token. */
  token: string | undefined;
  /** `SPRITE_ORG`: organization when `-o` is not given. */
  org: string | undefined;
  /** `SPRITE_URL`, else `SPRITES_API_URL`: base URL of the API. */
  apiUrl: string | undefined;
  /** Directory of the CLI's files, `~/.sprites`. */
  settingsDir: string;
  /** Where the token of a server on this machine may be, best first. */
  hostTokenFiles: string[];
}

/** Variables that describe the user's terminal to a command in a sprite. */
const TERMINAL_VARIABLES = ["TERM", "COLORTERM", "LANG", "LC_ALL"] as const;

export function readEnvironment(variables: NodeJS.ProcessEnv = process.env): Environment {
  const read = (name: string): string | undefined => variables[name]?.trim() || undefined;
  const home = homedir();
  const serverHome = read("SPRITED_HOME");
  const stateHome = read("XDG_STATE_HOME") ?? join(home, ".local", "state");
  return {
    token: read("SPRITE_TOKEN"),
    org: read("SPRITE_ORG"),
    apiUrl: read("SPRITE_URL") ?? read("SPRITES_API_URL"),
    settingsDir: join(home, ".sprites"),
    hostTokenFiles: serverHome ? [join(serverHome, "token")] : ["/var/lib/sprited/token", join(stateHome, "sprited", "token")],
  };
}

/** The user's editor as a shell command. */
export function editorCommand(variables: NodeJS.ProcessEnv = process.env): string {
  return variables["VISUAL"]?.trim() || variables["EDITOR"]?.trim() || "vi";
}

/** `SPRITE_WEBHOOK_SECRET`: signs what webhooks of jobs get; not a flag, so that no process list shows it. */
export function webhookSecret(variables: NodeJS.ProcessEnv = process.env): string | undefined {
  return variables["SPRITE_WEBHOOK_SECRET"] || undefined;
}

/** True on a terminal that can do no more than print. */
export function isDumbTerminal(variables: NodeJS.ProcessEnv = process.env): boolean {
  return variables["TERM"] === "dumb";
}

/** `NAME=value` of the variables that a command with a terminal gets passed. */
export function terminalVariables(variables: NodeJS.ProcessEnv = process.env): string[] {
  return TERMINAL_VARIABLES.flatMap((name) => (variables[name] ? [`${name}=${variables[name]}`] : []));
}
