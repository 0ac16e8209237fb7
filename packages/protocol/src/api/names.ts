/**
 * Rules for what users may call things: sprites, organizations, labels, variables. Pure; each
 * function returns the sentence that says which rule was broken, or undefined.
 */
import { API_LIMITS } from "./limits.ts";

/** Why `name` cannot be a sprite's name. */
export function spriteNameProblem(name: string): string | undefined {
  return hostLabelProblem("a sprite name", name, API_LIMITS.spriteNameMax);
}

/** Why `slug` cannot be an organization's slug. */
export function organizationSlugProblem(slug: string): string | undefined {
  return hostLabelProblem("an organization slug", slug, API_LIMITS.organizationSlugMax);
}

/** Names and slugs become part of host names, so the rules are those of DNS labels. */
function hostLabelProblem(what: string, text: string, lengthMax: number): string | undefined {
  if (text === "") return `${what} must not be empty`;
  if (text.length > lengthMax) return `${what} has at most ${lengthMax} characters, this one has ${text.length}`;
  const wrong = /[^a-z0-9-]/u.exec(text);
  if (wrong) {
    if (/[A-Z]/.test(wrong[0])) return `${what} has no upper-case letters, but this one contains ${JSON.stringify(wrong[0])}`;
    return `${what} has only lower-case letters, digits and hyphens, but this one contains ${JSON.stringify(wrong[0])}`;
  }
  if (text.startsWith("-")) return `${what} begins with a letter or a digit, not with a hyphen`;
  if (text.endsWith("-")) return `${what} ends with a letter or a digit, not with a hyphen`;
  return undefined;
}

/** Why `labels` cannot be a sprite's labels. */
export function labelsProblem(labels: readonly string[]): string | undefined {
  if (labels.length > API_LIMITS.labelsMax) return `a sprite has at most ${API_LIMITS.labelsMax} labels, these are ${labels.length}`;
  for (const label of labels) {
    if (label.trim() === "") return "a label must not be empty";
    if (label.length > API_LIMITS.labelCharactersMax) {
      return `a label has at most ${API_LIMITS.labelCharactersMax} characters, one of these has ${label.length}`;
    }
    if (/[\p{Cc}\p{Cs}]/u.test(label)) return `a label has no control characters, but ${JSON.stringify(label)} has one`;
  }
  return undefined;
}

/** Why `environment` cannot be a set of variables. Values are never quoted: they may be secrets. */
export function environmentProblem(environment: Readonly<Record<string, string>>): string | undefined {
  const entries = Object.entries(environment);
  if (entries.length > API_LIMITS.environmentEntriesMax) {
    return `an environment has at most ${API_LIMITS.environmentEntriesMax} variables, this one has ${entries.length}`;
  }
  for (const [name, value] of entries) {
    if (name === "") return "a variable must have a name";
    if (/[=\0]/.test(name)) return `a variable's name has no "=" and no NUL, but ${JSON.stringify(name)} has`;
    if (value.includes("\0")) return `the value of ${JSON.stringify(name)} has a NUL byte`;
  }
  const bytes = utf8Length(JSON.stringify(environment));
  if (bytes > API_LIMITS.environmentBytesMax)
    return `an environment has at most ${API_LIMITS.environmentBytesMax} bytes as JSON, this one has ${bytes}`;
  return undefined;
}

/** Why a command with these arguments and variables cannot be started. */
export function commandProblem(argv: readonly string[], environment: Readonly<Record<string, string>>): string | undefined {
  const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  if (argv.length + variables.length > API_LIMITS.argumentsMax)
    return `a command has at most ${API_LIMITS.argumentsMax} arguments and variables`;
  let bytes = 0;
  for (const text of [...argv, ...variables]) {
    if (text.includes("\0")) return "arguments and variables have no NUL bytes";
    const length = utf8Length(text);
    if (length > API_LIMITS.argumentBytesMax) {
      return `one argument or variable has at most ${API_LIMITS.argumentBytesMax} bytes, one of these has ${length}`;
    }
    bytes += length + 1;
  }
  if (bytes > API_LIMITS.commandBytesMax)
    return `arguments and variables have at most ${API_LIMITS.commandBytesMax} bytes together, these have ${bytes}`;
  return undefined;
}

/** Length of `text` as UTF-8, bytes. */
function utf8Length(text: string): number {
  let bytes = 0;
  for (const character of text) {
    const point = character.codePointAt(0) ?? 0;
    bytes += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  }
  return bytes;
}
