/** `sprite proxy`: ports of a sprite on this computer. Rules PROXY-9 to PROXY-12 of docs/spec/ports.md. */
import { CliError, EXIT_USAGE } from "../output/cli-error.ts";
import { describeError } from "../output/report.ts";
import { err } from "../output/style.ts";
import { onSignals, signalExitCode } from "../exec/signals.ts";
import { LossLines } from "../ports/loss-lines.ts";
import { openLocalPort } from "../ports/local-port.ts";
import { mappingText, parseDestination, parseMapping, type PortMapping } from "../ports/mapping.ts";
import { relay } from "../ports/relay.ts";
import type { Target } from "../settings/load.ts";
import type { CommandContext } from "./catalogue.ts";
import { newCommand, ORG_FLAG, ORG_HELP, SPRITE_FLAG, SPRITE_HELP } from "./command.ts";
import { found } from "./not-found.ts";
import { loadVerifiedTarget } from "./server.ts";

export function build(context: CommandContext) {
  return newCommand("sprite proxy", "Make ports of a sprite reachable on this computer, until Ctrl-C.", [
    ["sprite proxy 8080", "localhost:8080 is its 8080"],
    ["sprite proxy 3000 5433:5432", "several; its 5432 is 5433"],
    ["sprite proxy 5433:db.internal:5432", "a host that it reaches"],
    ["ssh -o ProxyCommand='sprite proxy -W :22' dev", "one connection, for ssh"],
  ])
    .argument("[ports...]", "PORT, LOCAL:REMOTE or LOCAL:HOST:REMOTE")
    .option("-W, --stdio <[host]:port>", "connect standard input and output instead")
    .option(ORG_FLAG, ORG_HELP)
    .option(SPRITE_FLAG, SPRITE_HELP)
    .action(async (ports, options) => {
      const { stdio } = options;
      if ((stdio === undefined) === (ports.length === 0)) {
        throw new CliError(stdio === undefined ? "No port was named." : "-W and ports exclude each other.", {
          hint: "For example `sprite proxy 8080`; `sprite proxy --help` shows more.",
          exitCode: EXIT_USAGE,
          code: "usage",
        });
      }
      const mappings = ports.map(parseMapping);
      const to = stdio === undefined ? undefined : parseDestination(stdio);
      const target = await loadVerifiedTarget({ ...context.flags, ...options });
      context.exitCode = await found(target, to ? joinStdio(target, to) : forward(target, mappings));
    });
}

/** Forwards until a signal comes. */
async function forward(target: Target, mappings: readonly PortMapping[]): Promise<number> {
  await using stack = new AsyncDisposableStack();
  const lines = new LossLines(target.sprite, say);
  const events = {
    lost: () => lines.lost(),
    back: () => lines.back(),
    failed: (error: unknown, mapping: PortMapping) =>
      say(`sprite: ${mappingText(target.sprite, mapping)}: ${describeError(error).message}`),
  };
  for (const mapping of mappings) stack.use(await openLocalPort(target, mapping, events));
  for (const mapping of mappings) process.stdout.write(`${mappingText(target.sprite, mapping)}\n`);
  return await new Promise<number>((resolve) => {
    const stop = onSignals((name) => {
      stop();
      // The terminal shows ^C; what follows begins on a line of its own.
      if (name === "SIGINT" && process.stderr.isTTY) process.stderr.write("\n");
      resolve(name === "SIGINT" ? 0 : signalExitCode(name));
    });
  });
}

async function joinStdio(target: Target, to: { host: string; port: number }): Promise<number> {
  const over = new AbortController();
  const lines = new LossLines(target.sprite, say);
  const stop = onSignals((name) => {
    over.abort();
    process.exitCode = signalExitCode(name);
  });
  try {
    const local = { input: process.stdin, output: process.stdout, cut: () => void process.stdin.destroy() };
    await relay(target, to, local, { signal: over.signal, lost: () => lines.lost(), back: () => lines.back() });
    return 0;
  } catch (error) {
    if (over.signal.aborted) return Number(process.exitCode);
    throw error;
  } finally {
    stop();
    process.stdin.destroy();
  }
}

function say(line: string): void {
  process.stderr.write(`${err("dim", line)}\n`);
}
