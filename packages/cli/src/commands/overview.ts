/** What `sprite` alone and `sprite --help` print. */
import { type Paint } from "../output/style.ts";
import { CATALOGUE } from "./catalogue.ts";

/** Columns of the left part. */
const LEFT_WIDTH = 24;

export function overview(version: string, paint: Paint): string {
  const groups = [...CATALOGUE]
    .filter(([, entries]) => entries.length > 0)
    .map(([title, entries]) =>
      [
        paint("bold", title),
        ...entries.map(({ name, aliases, usage, summary }) => {
          const short = [name, ...aliases.filter((alias) => alias.length <= 2)].join(", ");
          return `  ${`${short} ${usage}`.trimEnd().padEnd(LEFT_WIDTH)}  ${summary}`;
        }),
      ].join("\n"),
    );
  return [
    `${paint("bold", "sprite")} ${version}: persistent Linux computers, each in its own virtual machine`,
    `Usage: sprite [-s SPRITE] [-o ORG] <command> …`,
    ...groups,
    "`sprite <command> --help` explains a command with examples.",
    "",
  ].join("\n\n");
}
