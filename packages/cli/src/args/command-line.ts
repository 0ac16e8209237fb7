/**
 * First look at the command line: which command is meant, and the global flags before it. Pure.
 * The rest is parsed by the command's own module, so that only that one has to be loaded.
 */

/** Flags that hold for nearly every command, before or after its name. */
export interface GlobalFlags {
  /** `-o`: organization, or `alias:organization`. */
  org?: string;
  /** `-s`: name of the sprite. */
  sprite?: string;
}

export interface CommandLine {
  flags: GlobalFlags;
  /** First word that is no flag; undefined when there is none. */
  command: string | undefined;
  /** What follows the command. */
  rest: string[];
  /** Flags before the command that are not global ones, such as `--help`. */
  unknown: string[];
}

const LONG = new Map<string, keyof GlobalFlags>([
  ["--org", "org"],
  ["--sprite", "sprite"],
]);
const SHORT = new Map<string, keyof GlobalFlags>([
  ["-o", "org"],
  ["-s", "sprite"],
]);

/** Splits `argv` (without program and script). A flag without its value ends up in `unknown`. */
export function splitCommandLine(argv: readonly string[]): CommandLine {
  const line: CommandLine = { flags: {}, command: undefined, rest: [], unknown: [] };
  for (let index = 0; index < argv.length; index++) {
    const word = argv[index] ?? "";
    if (!word.startsWith("-") || word === "-") {
      line.command = word;
      line.rest = argv.slice(index + 1);
      return line;
    }
    const taken = takeGlobal(word, argv[index + 1], line.flags);
    if (taken === 0) line.unknown.push(word);
    else index += taken - 1;
  }
  return line;
}

/** Reads one global flag into `flags`; returns how many words it took, 0 when it is another flag. */
function takeGlobal(word: string, next: string | undefined, flags: GlobalFlags): number {
  const bare = LONG.get(word) ?? SHORT.get(word);
  if (bare) {
    if (next === undefined) return 0;
    flags[bare] = next;
    return 2;
  }
  const equals = word.indexOf("=");
  const long = equals > 0 ? LONG.get(word.slice(0, equals)) : undefined;
  if (long) {
    flags[long] = word.slice(equals + 1);
    return 1;
  }
  const short = SHORT.get(word.slice(0, 2));
  if (!short || word.length < 3) return 0;
  flags[short] = word.slice(word[2] === "=" ? 3 : 2);
  return 1;
}

/** The name of `names` that a mistyped `word` most likely meant; undefined when none is near. */
export function nearestName(word: string, names: readonly string[]): string | undefined {
  let best: { name: string; distance: number } | undefined;
  for (const name of names) {
    const distance = editDistance(word, name);
    if (distance <= Math.max(1, Math.floor(name.length / 3)) && (!best || distance < best.distance)) best = { name, distance };
  }
  return best?.name;
}

function editDistance(left: string, right: string): number {
  let row = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let i = 1; i <= left.length; i++) {
    const next = [i];
    for (let j = 1; j <= right.length; j++) {
      const substitution = (row[j - 1] ?? 0) + (left[i - 1] === right[j - 1] ? 0 : 1);
      next.push(Math.min(substitution, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[right.length] ?? 0;
}
