import { enableCompileCache } from "node:module";
import path from "node:path";
import { after } from "@sprited/base";
import { CommanderError } from "commander";
import { type DaemonPort, EXIT_CODES, explainFailure, makeProgram } from "./commands/index.ts";

/**
 * The main program of `sprited`: hands the command line to `commands/` and turns what comes back
 * into an exit code. What serves is loaded only when a command needs it.
 */

/** A command that has ended leaves this much time to what it forgot to close, `ms`. */
const LINGER_MS = 2_000;

/** What was compiled before is read instead: a start is quicker, and 20 MB smaller. Where it cannot be written there is none. */
enableCompileCache(path.join(import.meta.dirname, "..", "..", "..", "node_modules", ".cache", "sprited"));

const daemon: DaemonPort = {
  start: async (config, options) => (await import("./daemon.ts")).startDaemon(config, options),
  makeBootSnapshot: async (config, options) => (await import("./daemon.ts")).makeBootSnapshot(config, options),
};

const program = makeProgram({
  daemon,
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  finish: (exitCode) => {
    process.exitCode = exitCode;
  },
}).exitOverride();
for (const command of program.commands) command.exitOverride();

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = exitCodeOf(error);
}
// Unreferenced: fires only when something else still holds the process.
after(LINGER_MS, () => process.exit());

function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_CODES.ok.code : EXIT_CODES.usage.code;
  if (isStopReason(error)) {
    process.stderr.write("Stopped. The next start goes on from here.\n");
    return 130;
  }
  const { exit, message } = explainFailure(error);
  process.stderr.write(`sprited: ${message}\n`);
  return EXIT_CODES[exit].code;
}

/** What an aborted set-up rejects with: the reason of its lifetime. */
function isStopReason(error: unknown): boolean {
  return typeof error === "object" && error !== null && "why" in error && "exitCode" in error;
}
