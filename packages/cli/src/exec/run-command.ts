/**
 * Runs a command in a sprite without a terminal. Rules CLI-20 to CLI-27 of docs/spec/cli.md.
 *
 * Invariants: the first signal goes to the command, the second ends the CLI; a reader that left
 * (EPIPE) ends the command and is not worth a message; the exit code is the command's.
 */
import type { ExecConnection } from "@sprited/protocol/client/exec";
import type { Target } from "../settings/load.ts";
import { connectExec } from "./connect.ts";
import { onSignals, type SignalName, signalExitCode } from "./signals.ts";
import { OutputSink, pumpInput } from "./stdio.ts";

/** How long a command that got TERM or HUP may take to end before the CLI leaves it, ms. */
const TERMINATION_MS = 5000;
/** How long a command may go on after an interrupt before the user is told how to leave, ms. */
const INTERRUPT_NOTE_MS = 1500;

export interface Command {
  argv: readonly string[];
  env: Readonly<Record<string, string>>;
  dir: string | undefined;
  stdin: boolean;
}

/** Resolves with the exit code. Throws `ApiError`, `ConnectionError`. */
export async function runCommand(target: Target, command: Command): Promise<number> {
  const leaving = Promise.withResolvers<number>();
  const aborted = new AbortController();
  let connection: ExecConnection | undefined;
  let readerLeft = false;
  const sink = new OutputSink(() => {
    readerLeft = true;
    connection?.signal("PIPE");
    leaving.resolve(signalExitCode("SIGPIPE"));
  });
  const stopListening = listenForSignals(
    (name) => connection?.signal(name),
    () => connection !== undefined,
    (code) => {
      leaving.resolve(code);
      aborted.abort();
    },
  );
  try {
    const what = { kind: "command" as const, ...command };
    const opened = connectExec(target, what, { output: (stream, data) => sink.write(stream, data) }, { signal: aborted.signal });
    connection = await opened.catch((error: unknown) => {
      if (aborted.signal.aborted) return undefined;
      throw error;
    });
    if (!connection) return await leaving.promise;
    const live = connection;
    sink.attach(live);
    if (command.stdin) void pumpInput(live, () => live.endInput());
    else live.endInput(); // some servers keep the input open without it
    const code = await Promise.race([live.ended, leaving.promise]);
    return readerLeft ? signalExitCode("SIGPIPE") : code;
  } finally {
    stopListening();
    connection?.detach();
  }
}

/** Forwards the first signal; what follows, or a command that does not end on TERM, leaves with its code. */
function listenForSignals(forward: (name: SignalName) => void, isConnected: () => boolean, leave: (code: number) => void): () => void {
  let count = 0;
  return onSignals((name) => {
    count += 1;
    if (count > 1 || !isConnected()) return leave(signalExitCode(name));
    forward(name);
    if (name !== "SIGINT") return void setTimeout(() => leave(signalExitCode(name)), TERMINATION_MS).unref();
    if (process.stderr.isTTY)
      setTimeout(() => process.stderr.write("Interrupt sent; press Ctrl-C again to leave the command.\n"), INTERRUPT_NOTE_MS).unref();
  });
}
