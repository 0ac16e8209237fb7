/** Signals that reach the CLI, and the exit codes they stand for. */
import { constants } from "node:os";
import { EXIT_SIGNAL_BASE } from "../output/cli-error.ts";

export type SignalName = "SIGINT" | "SIGTERM" | "SIGHUP" | "SIGQUIT";

const SIGNALS: readonly SignalName[] = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"];

/** Calls `listener` for each signal that would end the process. Returns how to stop listening. */
export function onSignals(listener: (name: SignalName) => void): () => void {
  for (const name of SIGNALS) process.on(name, listener);
  return () => {
    for (const name of SIGNALS) process.off(name, listener);
  };
}

/** Exit code of a program that the signal ended. */
export function signalExitCode(name: SignalName | "SIGPIPE"): number {
  return EXIT_SIGNAL_BASE + constants.signals[name];
}
