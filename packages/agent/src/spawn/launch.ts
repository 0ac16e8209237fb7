/**
 * How a command line becomes a process (SESS-7). A small shell script enters the working
 * directory, finds the program as the C library would and becomes it: path look-ups of the user's
 * making (slow or hung file systems) happen in the child, never in the agent. Pure.
 */
import type { CommandStart } from "@sprited/protocol/guest";
import type { User } from "./user.ts";

/** Longest single argument or variable that Linux passes on, bytes with its end. */
const ARGUMENT_BYTES_MAX = 128 * 1024;
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const TERMINAL = "xterm-256color";

/** Variables that the script or its shell sets for itself. */
const SHELL_OWNED: ReadonlySet<string> = new Set(["IFS", "LINENO", "OLDPWD", "OPTIND", "PPID", "PS1", "PS2", "PS4", "RANDOM", "SHLVL"]);

/** The shell that runs the script, and how it becomes the command. */
export interface LaunchShell {
  path: string;
  argv: readonly string[];
  /** Replaces the shell by the program found at `$__p`; the command's words are `$@`. */
  become: string;
  /** Program and first arguments that set `K=V` words and become the rest. */
  setVariables: string;
}

/** busybox of the system image. It would run its own applets for plain names, so the path is given and the name kept. */
export const BUSYBOX_SHELL: LaunchShell = {
  path: "/.sprite/bin/busybox",
  argv: ["busybox", "sh"],
  become: `__a=$1; shift; exec -a "$__a" "$__p" "$@"`,
  setVariables: "/.sprite/bin/busybox env",
};

/** The host's own shell, for agents without an inner environment. */
export const HOST_SHELL: LaunchShell = { path: "/bin/sh", argv: ["sh"], become: `exec "$@"`, setVariables: "/usr/bin/env" };

/** `$1` terminal or nothing, `$2` directory, `$3` how many `K=V` words follow; then the command. */
function script(shell: LaunchShell): string {
  return `ulimit -Sn 65536 2>/dev/null
__t=$1 __d=$2 __n=$3; shift 3
[ -n "$__t" ] && [ -c "$__t" ] && exec 0<>"$__t" 1>&0 2>&0
if ! cd "$__d" 2>/dev/null; then echo "sprite: $__d: no such directory" >&2; exit 126; fi
unset OLDPWD SHLVL
eval "__c=\\\${$((__n + 1))}"
__p=
case $__c in
"") ;;
*/*) __p=$__c;;
*) set -f; IFS=:; for __i in $PATH; do
if [ -f "\${__i:-.}/$__c" ]; then __p=\${__i:-.}/$__c; [ -x "$__p" ] && break; fi; done; unset IFS; set +f;;
esac
if [ -z "$__p" ] || ! [ -e "$__p" ]; then echo "sprite: $__c: command not found" >&2; exit 127; fi
if [ -d "$__p" ] || ! [ -x "$__p" ]; then echo "sprite: $__c: permission denied" >&2; exit 126; fi
[ "$__n" -gt 0 ] && exec ${shell.setVariables} "$@"
${shell.become}`;
}

const SCRIPTS = new Map<LaunchShell, string>();

export interface Launch {
  path: string;
  argv: string[];
  env: string[];
}

/** Why a command line can never be started. */
export class LaunchError extends Error {
  override readonly name = "LaunchError";
}

export interface LaunchInput {
  start: CommandStart;
  user: User;
  /** The sprite's own environment; the command's is added to it. */
  environment: Readonly<Record<string, string>>;
  /** Path of the terminal as the command sees it. */
  terminal: string | undefined;
  shell: LaunchShell;
}

/** What to execute for `start`. Throws `LaunchError` for what Linux cannot pass on. */
export function planLaunch(input: LaunchInput): Launch {
  const { start, user, shell } = input;
  const dir = start.dir ?? user.home;
  const variables: Record<string, string> = {
    HOME: user.home,
    USER: user.name,
    LOGNAME: user.name,
    SHELL: user.shell,
    PATH: DEFAULT_PATH,
    LANG: "C.UTF-8",
    ...(input.terminal === undefined ? {} : { TERM: TERMINAL }),
    ...user.variables,
    ...input.environment,
    ...start.env,
  };
  const env: string[] = [];
  const odd: string[] = [];
  for (const [name, value] of Object.entries(variables)) {
    if (name === "" || name.includes("=")) throw new LaunchError(`${JSON.stringify(name)} is not a name for a variable`);
    const word = `${name}=${value}`;
    requirePassable(word, `the variable ${name}`);
    (isShellSafe(name) ? env : odd).push(word);
  }
  for (const word of start.argv) requirePassable(word, "an argument");
  requirePassable(dir, "the directory");
  let text = SCRIPTS.get(shell);
  if (text === undefined) SCRIPTS.set(shell, (text = script(shell)));
  return {
    path: shell.path,
    argv: [...shell.argv, "-c", text, "sprite", input.terminal ?? "", dir, String(odd.length), ...odd, ...start.argv],
    env,
  };
}

/** Whether a shell hands a variable of that name on as it was: it forgets what it cannot hold and changes its own. */
function isShellSafe(name: string): boolean {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !SHELL_OWNED.has(name) && !name.startsWith("__");
}

function requirePassable(word: string, what: string): void {
  if (word.includes("\0")) throw new LaunchError(`${what} holds a zero byte, which no program can be given`);
  if (Buffer.byteLength(word) >= ARGUMENT_BYTES_MAX)
    throw new LaunchError(`${what} is longer than 128 KiB, the most Linux passes to a program`);
}
