/**
 * Runs one command of the CLI: finds it, loads its module, turns whatever goes wrong into a
 * message and an exit code.
 */
import { CommanderError } from "commander";
import manifest from "../package.json" with { type: "json" };
import { nearestName, splitCommandLine } from "./args/command-line.ts";
import { type CatalogueEntry, commandNames, findEntry } from "./commands/catalogue.ts";
import { overview } from "./commands/overview.ts";
import { flushOutput } from "./exec/stdio.ts";
import { CliError, EXIT_FAILURE, EXIT_USAGE } from "./output/cli-error.ts";
import { reportError } from "./output/report.ts";
import { out } from "./output/style.ts";

/** Runs the command line `argv` and ends the process. */
export async function main(argv: readonly string[]): Promise<void> {
  process.on("uncaughtException", (error) => {
    // Registered last, so that a terminal is restored before the message appears.
    process.once("exit", () => reportError(error, { json: false }));
    process.exit(EXIT_FAILURE);
  });
  const code = await run(argv);
  await flushOutput();
  process.exit(code);
}

async function run(argv: readonly string[]): Promise<number> {
  try {
    return await dispatch(argv);
  } catch (error) {
    return reportError(asCliError(error, argv), { json: wantsJson(argv) });
  }
}

async function dispatch(argv: readonly string[]): Promise<number> {
  const line = splitCommandLine(argv);
  const wrong = line.unknown.find((flag) => flag !== "-h" && flag !== "--help");
  if (wrong !== undefined)
    throw new CliError(`The flag ${wrong} is not known, or its value is missing.`, {
      hint: "`sprite --help` shows what there is.",
      exitCode: EXIT_USAGE,
      code: "usage",
    });
  const helpFor = line.command === "help" || line.unknown.length > 0;
  if (line.command === "__complete") return await complete(line.rest);
  const word = line.command === "help" ? line.rest[0] : line.command;
  if (word === undefined) {
    process.stdout.write(overview(manifest.version, out));
    return 0;
  }
  const module = await load(word).load();
  const context = { flags: line.flags, exitCode: 0 };
  try {
    await module.build(context).parseAsync(helpFor ? ["--help"] : line.rest, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError) || !error.code.startsWith("commander.help")) throw error;
  }
  return context.exitCode;
}

/** Answers a shell's completion script. */
async function complete(words: readonly string[]): Promise<number> {
  const { completionLines } = await import("./completion/answer.ts");
  process.stdout.write((await completionLines(words)).map((offer) => `${offer}\n`).join(""));
  return 0;
}

function load(word: string): CatalogueEntry {
  const entry = findEntry(word);
  if (entry) return entry;
  const near = nearestName(word, commandNames());
  throw new CliError(`There is no command ${JSON.stringify(word)}.`, {
    hint: near === undefined ? "`sprite --help` shows what there is." : `Did you mean \`sprite ${near}\`?`,
    exitCode: EXIT_USAGE,
    code: "usage",
  });
}

/** Wrong usage in our words; other errors stay as they are. */
function asCliError(error: unknown, argv: readonly string[]): unknown {
  if (!(error instanceof CommanderError)) return error;
  const text = error.message.replace(/^error: /, "");
  const word = splitCommandLine(argv).command ?? "";
  return new CliError(`${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?)]$/.test(text) ? "" : "."}`, {
    hint: `\`sprite ${word} --help\` shows what there is.`,
    exitCode: EXIT_USAGE,
    code: "usage",
  });
}

/** True when the command was asked for JSON; what follows `--` is not the CLI's. */
function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  const own = end < 0 ? argv : argv.slice(0, end);
  return own.includes("--json") && !["exec", "x", "api"].includes(splitCommandLine(argv).command ?? "");
}
