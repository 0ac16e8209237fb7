/**
 * Patterns for lists: `*` and `?` within a name, `**` over directories, `[a-z]`, `{a,b}`. Pure.
 * A pattern without a slash is for the base name. Takes time linear in pattern times name.
 */
const ALTERNATIVES_MAX = 64;

/** Returns a test for paths relative to the directory that is listed. */
export function matcher(pattern: string): (path: string) => boolean {
  const alternatives = expand(pattern);
  return (path) => {
    const name = path.slice(path.lastIndexOf("/") + 1);
    return alternatives.some((one) => (one.includes("/") ? matchPath(one.split("/"), path.split("/")) : matchName(one, name)));
  };
}

/** Braces written out; those without an end, or too many, stand for themselves. */
function expand(pattern: string): string[] {
  let open = [pattern];
  for (let round = 0; round < ALTERNATIVES_MAX; round += 1) {
    const at = open.findIndex((one) => /\{[^{}]*,[^{}]*\}/.test(one));
    if (at < 0) return open;
    const text = open[at] ?? "";
    const { index, 0: braces } = /\{[^{}]*,[^{}]*\}/.exec(text) as RegExpExecArray;
    const written = braces.slice(1, -1).split(",");
    if (open.length + written.length > ALTERNATIVES_MAX) return open;
    const all = written.map((choice) => text.slice(0, index) + choice + text.slice(index + braces.length));
    open = [...open.slice(0, at), ...all, ...open.slice(at + 1)];
  }
  return open;
}

function matchPath(pattern: readonly string[], names: readonly string[]): boolean {
  return matchSequence(pattern.length, names.length, {
    isMany: (at) => pattern[at] === "**",
    fits: (at, index) => matchName(pattern[at] ?? "", names[index] ?? ""),
  });
}

function matchName(pattern: string, name: string): boolean {
  const parts = pattern.match(/\[!?\]?[^\]]*\]|\\.|./gsu) ?? [];
  const letters = [...name];
  return matchSequence(parts.length, letters.length, {
    isMany: (at) => parts[at] === "*" || parts[at] === "**",
    fits: (at, index) => matchLetter(parts[at] ?? "", letters[index] ?? ""),
  });
}

/** The classic walk: one star is remembered, so that nothing is tried twice. */
function matchSequence(
  parts: number,
  items: number,
  rules: { isMany(at: number): boolean; fits(at: number, index: number): boolean },
): boolean {
  let part = 0;
  let item = 0;
  let star = -1;
  let resume = 0;
  while (item < items) {
    if (part < parts && rules.isMany(part)) {
      star = part;
      part += 1;
      resume = item;
    } else if (part < parts && rules.fits(part, item)) {
      part += 1;
      item += 1;
    } else if (star >= 0) {
      resume += 1;
      item = resume;
      part = star + 1;
    } else return false;
  }
  while (part < parts && rules.isMany(part)) part += 1;
  return part === parts;
}

function matchLetter(part: string, letter: string): boolean {
  if (part === "?") return true;
  if (part.startsWith("\\") && part.length > 1) return part.slice(1) === letter;
  if (!part.startsWith("[") || !part.endsWith("]") || part.length < 3) return part === letter;
  const isNegated = part[1] === "!";
  const set = part.slice(isNegated ? 2 : 1, -1);
  let isIn = false;
  for (const [, from = "", to = from] of set.matchAll(/(.)(?:-(.))?/gsu)) if (letter >= from && letter <= to) isIn = true;
  return isIn !== isNegated;
}
