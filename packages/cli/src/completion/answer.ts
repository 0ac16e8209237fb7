/**
 * `sprite __complete`: what the shells' scripts call at every Tab.
 *
 * Each line of the answer is `value TAB description`, already filtered; the line `:files` asks the
 * shell to complete names of files. It says nothing on standard error and always ends with 0.
 */
import { homedir } from "node:os";
import { join } from "node:path";
import { printable } from "../output/text-width.ts";
import { lookUp } from "./lookup.ts";
import { planCompletion } from "./plan.ts";

/** Answer of a shell that completes names of files by itself. */
const FILES = ":files";

/** `argv`: the words after `sprite`, up to the one being typed. Never throws. */
export async function completionLines(argv: readonly string[]): Promise<string[]> {
  try {
    const plan = await planCompletion(argv);
    if (plan.kind === "file") return [FILES];
    const place = { cacheDir: join(homedir(), ".cache", "sprite"), nowMs: Date.now() };
    const candidates = plan.candidates ?? (plan.kind ? await lookUp(plan.kind, plan.flags, place) : []);
    return candidates
      .filter(({ value }) => value !== "" && value.startsWith(plan.begin))
      .map(({ value, about }) => `${plan.prefix}${printable(value)}\t${printable(about)}`);
  } catch {
    return []; // no token, no sprite chosen: nothing to offer, and no place to say so
  }
}
