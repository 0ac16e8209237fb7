/**
 * What the word under the cursor can be: names that are known here, or a kind of thing that only
 * the server or the disk knows. Commands say themselves what they take (`commander`'s own data and
 * `completes`), so nothing is written down twice.
 */
import type { Command, Option } from "commander";
import { type GlobalFlags, splitCommandLine } from "../args/command-line.ts";
import { CATALOGUE, findEntry } from "../commands/catalogue.ts";
import { type WordKind, wordKinds } from "../commands/command.ts";

/** One thing to offer. */
export interface Candidate {
  value: string;
  /** A few words about it; may be empty. */
  about: string;
}

/** What to offer: `candidates`, or things of `kind`; `prefix` stands before each of them. */
export interface CompletionPlan {
  flags: GlobalFlags;
  /** Begin of the word that candidates must have. */
  begin: string;
  prefix: string;
  candidates?: Candidate[];
  kind?: WordKind;
}

const GLOBAL_OPTIONS: readonly Candidate[] = [
  { value: "--sprite", about: "the sprite" },
  { value: "--org", about: "organization" },
  { value: "--help", about: "show all commands" },
  { value: "--version", about: "show the version" },
];

/** Plans for `words` (without `sprite`), of which the last, perhaps empty, is being typed. */
export async function planCompletion(words: readonly string[]): Promise<CompletionPlan> {
  const { before, current } = joinAssignments(words);
  const line = splitCommandLine(before);
  const flags: GlobalFlags = { ...line.flags };
  if (line.command === undefined) return beforeCommand(line.unknown.at(-1), current, flags);
  if (line.command === "help") return offer(commandCandidates(), current, flags);
  const entry = findEntry(line.command);
  if (!entry) return offer([], current, flags);
  const module = await entry.load();
  const walk = walkCommand(module.build({ flags: {}, exitCode: 0 }) as unknown as Command, line.rest);
  Object.assign(flags, walk.flags);
  return afterCommand(walk, current, flags);
}

/** bash gives `--flag=val` as three words: the last two belong to the first. */
function joinAssignments(words: readonly string[]): { before: string[]; current: string } {
  const before = [...words];
  const current = before.pop() ?? "";
  if (current === "=") return { before, current: "" };
  if (before.at(-1) === "=") before.pop();
  return { before: before.filter((word) => word !== "="), current };
}

function beforeCommand(lastUnknown: string | undefined, current: string, flags: GlobalFlags): CompletionPlan {
  if (lastUnknown === "-s" || lastUnknown === "--sprite") return { flags, begin: current, prefix: "", kind: "sprite" };
  if (lastUnknown === "-o" || lastUnknown === "--org") return { flags, begin: current, prefix: "", kind: "organization" };
  if (current.startsWith("-")) return offer([...GLOBAL_OPTIONS], current, flags);
  return offer(commandCandidates(), current, flags);
}

function commandCandidates(): Candidate[] {
  return [...CATALOGUE.values()].flat().map(({ name, summary }) => ({ value: name, about: summary }));
}

/** Where the words before the cursor lead. */
interface Walk {
  command: Command;
  flags: GlobalFlags;
  /** Words that are no flags, of the innermost command. */
  operands: number;
  /** A flag whose value is being typed. */
  pending: Option | undefined;
  /** No flags of ours any more: after `--`, or in the words of another command. */
  optionsOver: boolean;
}

function walkCommand(root: Command, words: readonly string[]): Walk {
  const walk: Walk = { command: root, flags: {}, operands: 0, pending: undefined, optionsOver: false };
  for (const word of words) {
    if (walk.pending) {
      note(walk.flags, walk.pending, word);
      walk.pending = undefined;
    } else if (word === "--" && !walk.optionsOver) walk.optionsOver = true;
    else if (!walk.optionsOver && word.startsWith("-") && word !== "-") takeFlag(walk, word);
    else takeOperand(walk, word);
  }
  return walk;
}

function takeFlag(walk: Walk, word: string): void {
  const equals = word.indexOf("=");
  const option = findOption(walk.command, equals < 0 ? word : word.slice(0, equals));
  if (!option || option.isBoolean()) return;
  if (equals < 0) walk.pending = option;
  else note(walk.flags, option, word.slice(equals + 1));
}

function takeOperand(walk: Walk, word: string): void {
  const child = walk.operands === 0 ? walk.command.commands.find((one) => one.name() === word || one.aliases().includes(word)) : undefined;
  if (child) walk.command = child;
  else {
    walk.operands += 1;
    if (passesThrough(walk.command)) walk.optionsOver = true;
  }
}

function note(flags: GlobalFlags, option: Option, value: string): void {
  if (option.long === "--sprite") flags.sprite = value;
  if (option.long === "--org") flags.org = value;
}

function afterCommand(walk: Walk, current: string, flags: GlobalFlags): CompletionPlan {
  if (walk.pending) return { flags, begin: current, prefix: "", ...valuesOf(walk.pending) };
  const equals = current.indexOf("=");
  if (!walk.optionsOver && current.startsWith("--") && equals > 0) {
    const option = findOption(walk.command, current.slice(0, equals));
    if (!option || option.isBoolean()) return offer([], current, flags);
    return { flags, begin: current.slice(equals + 1), prefix: current.slice(0, equals + 1), ...valuesOf(option) };
  }
  if (!walk.optionsOver && current.startsWith("-")) return offer(optionCandidates(walk.command), current, flags);
  if (walk.command.commands.length > 0 && walk.operands === 0) {
    return offer(
      walk.command.commands.map((one) => ({ value: one.name(), about: one.description() })),
      current,
      flags,
    );
  }
  const taken = walk.command.registeredArguments;
  const kinds = wordKinds(walk.command);
  const kind = walk.operands < taken.length || taken.at(-1)?.variadic ? (kinds[walk.operands] ?? kinds.at(-1)) : undefined;
  return kind === undefined ? offer([], current, flags) : { flags, begin: current, prefix: "", kind };
}

function valuesOf(option: Option): { kind?: WordKind; candidates?: Candidate[] } {
  if (option.long === "--sprite") return { kind: "sprite" };
  if (option.long === "--org") return { kind: "organization" };
  if (option.argChoices) return { candidates: option.argChoices.map((value) => ({ value, about: "" })) };
  if (option.long === "--file") return { kind: "file" };
  return { candidates: [] };
}

function optionCandidates(command: Command): Candidate[] {
  const own = command.options
    .filter((option) => !option.hidden)
    .map((option) => ({ value: option.long ?? option.flags, about: option.description }));
  return [...own, { value: "--help", about: "show the help" }];
}

function findOption(command: Command, name: string): Option | undefined {
  return command.options.find((option) => option.long === name || option.short === name);
}

/** True when everything after the first operand is another program's. */
function passesThrough(command: Command): boolean {
  return (command as unknown as { _passThroughOptions?: boolean })._passThroughOptions === true;
}

function offer(candidates: Candidate[], begin: string, flags: GlobalFlags): CompletionPlan {
  return { flags, begin, prefix: "", candidates };
}
