/** Decoders of single arguments: text to value, or an error that says what would be right. Pure. */
import { InvalidArgumentError } from "commander";

/** `K=v,K2=v2`, repeatable; a comma inside a value stays when no `NAME=` follows it. */
export function decodeEnv(text: string, previous: readonly string[] = []): string[] {
  const entries: string[] = [];
  for (const part of text.split(",")) {
    const last = entries.at(-1);
    if (/^[A-Za-z_][A-Za-z0-9_]*=/.test(part)) entries.push(part);
    else if (last !== undefined) entries[entries.length - 1] = `${last},${part}`;
    else throw new InvalidArgumentError(`Write NAME=value, or several as A=1,B=2.`);
  }
  return [...previous, ...entries];
}

/** A repeatable text. */
export function decodeRepeated(text: string, previous: readonly string[] = []): string[] {
  return [...previous, text];
}

/** A whole number above zero. */
export function decodeCount(text: string): number {
  if (!/^[1-9][0-9]{0,8}$/.test(text)) throw new InvalidArgumentError("Write a whole number above zero.");
  return Number(text);
}

/** A time such as `30s`, `5m`, `1h`, or `0`; as milliseconds. */
export function decodeDuration(text: string): number {
  const match = /^(\d{1,6})(ms|s|m|h)?$/.exec(text);
  const unit = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[match?.[2] ?? "s"] ?? 0;
  if (!match || (match[2] === undefined && match[1] !== "0")) throw new InvalidArgumentError("Write a time such as 30s, 5m or 1h.");
  return Number(match[1]) * unit;
}

/** Who may open a sprite's URL; `default` is the older word for `sprite`. */
export function decodeUrlAuth(text: string): "public" | "sprite" {
  if (text === "public" || text === "sprite") return text;
  if (text === "default") return "sprite";
  throw new InvalidArgumentError("Write public (anyone) or sprite (only with a token).");
}

/** `NAME=value` entries as a record; the last of a name holds. */
export function envRecord(entries: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    entries.map((entry) => {
      const equals = entry.indexOf("=");
      return [entry.slice(0, equals), entry.slice(equals + 1)];
    }),
  );
}

/** States of jobs. */
const JOB_STATES = ["running", "exited", "signaled", "timed_out", "lost"];

export function decodeJobState(text: string): string {
  if (!JOB_STATES.includes(text)) throw new InvalidArgumentError(`Write ${JOB_STATES.slice(0, -1).join(", ")} or ${JOB_STATES.at(-1)}.`);
  return text;
}

/** Which of a job's outputs. */
export function decodeLogStream(text: string): "stdout" | "stderr" | "all" {
  if (text === "stdout" || text === "stderr" || text === "all") return text;
  throw new InvalidArgumentError("Write stdout, stderr or all.");
}

/** A count of bytes. */
export function decodeByteOffset(text: string): number {
  if (!/^[0-9]{1,15}$/.test(text)) throw new InvalidArgumentError("Write a whole number of bytes.");
  return Number(text);
}

/** `src:dest`, one more of them; the first colon parts them. */
export function decodeFilePair(text: string, previous: readonly FilePair[] = []): FilePair[] {
  const at = text.indexOf(":");
  if (at <= 0 || at === text.length - 1) throw new InvalidArgumentError("Give it as LOCAL:REMOTE.");
  return [...previous, { source: text.slice(0, at), dest: text.slice(at + 1) }];
}

/** A local file and where it goes in the sprite. */
export interface FilePair {
  source: string;
  dest: string;
}
