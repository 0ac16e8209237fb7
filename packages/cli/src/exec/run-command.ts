/**
 * Runs a command in a sprite without a terminal. Rules CLI-20 to CLI-27 and CLI-40 to CLI-44 of
 * docs/spec/cli.md.
 *
 * Invariants: the first signal goes to the command, the second ends the CLI, and so does the first
 * while the connection is lost; a reader that left (EPIPE) ends the command and is not worth a
 * message; the exit code is the command's.
 */
import type { ExecWhat, openExec } from "@sprited/protocol/client/exec";
import type { LastingConnection, LastingHandlers } from "@sprited/protocol/client/lasting-exec";
import { err } from "../output/style.ts";
import type { Target } from "../settings/load.ts";
import { connectExec } from "./connect.ts";
import { backMessage, gapMessage, leftMessage, lostMessage, neverTwice, withWayBack } from "./messages.ts";
import { onSignals, type SignalName, signalExitCode } from "./signals.ts";
import { OutputSink, pumpInput } from "./stdio.ts";

/** How long a command that got TERM or HUP may take to end before the CLI leaves it, ms. */
const TERMINATION_MS = 5000;
/** How long a command may go on after an interrupt before the user is told how to leave, ms. */
const INTERRUPT_NOTE_MS = 1500;

/** How long the server lets a command run on by itself when its client has gone, s. */
const RUN_ON_SECONDS = 10;

export interface Command {
  argv: readonly string[];
  env: Readonly<Record<string, string>>;
  dir: string | undefined;
  stdin: boolean;
}

export interface RunOptions {
  /** How long a lost connection is tried again, ms; as long the command runs on without us. */
  reconnectForMs: number;
  /** Another way than WebSockets. */
  transport?: Transport | undefined;
}

/** A way to a command. It takes care of the input itself. */
export interface Transport {
  open: typeof openExec;
  /** False when signals do not get to the command: the first one leaves it then. */
  readonly takesSignals: boolean;
}

/** Starts a command and sees it to its end; resolves with its exit code. Throws `ApiError`, `ConnectionError`. */
export async function runCommand(target: Target, command: Command, options: RunOptions): Promise<number> {
  const runOnSeconds = Math.ceil(options.reconnectForMs / 1000);
  // The server's own 10 s are shorter than the time in which we may come back.
  const runOn = runOnSeconds > RUN_ON_SECONDS ? { maxRunAfterDisconnect: `${runOnSeconds}s` } : {};
  const stdin = command.stdin && !options.transport;
  return await seeToEnd(target, { kind: "command", ...command, ...runOn }, { ...options, stdin, isOurs: true });
}

/** Goes back to a command without terminal, as `runCommand`; leaving it does not end it. */
export async function rejoinCommand(target: Target, sessionId: string, options: RunOptions): Promise<number> {
  return await seeToEnd(target, { kind: "attach", sessionId }, { ...options, stdin: true, isOurs: false });
}

interface Seeing extends RunOptions {
  stdin: boolean;
  /** We started it, so it ends when we leave it. */
  isOurs: boolean;
}

async function seeToEnd(target: Target, what: ExecWhat, seeing: Seeing): Promise<number> {
  const leaving = Promise.withResolvers<number>();
  const aborted = new AbortController();
  let connection: LastingConnection | undefined;
  let readerLeft = false;
  const sink = new OutputSink(() => {
    readerLeft = true;
    connection?.signal("PIPE");
    leaving.resolve(signalExitCode("SIGPIPE"));
  });
  const stopListening = listenForSignals({
    live: () => connection,
    detaches: (name) => !seeing.isOurs && name === "SIGQUIT",
    isDeaf: () => seeing.transport?.takesSignals === false,
    leave: (code) => {
      if (connection && !connection.isConnected) say(leftMessage(target.sprite, connection.info.session_id));
      else if (seeing.isOurs) connection?.signal("TERM");
      leaving.resolve(code);
      aborted.abort();
    },
  });
  try {
    const opened = connectExec(target, what, handlersFor(target, sink, seeing), {
      signal: aborted.signal,
      reconnectForMs: seeing.reconnectForMs,
      open: seeing.transport?.open,
    });
    connection = await opened.catch((error: unknown) => {
      if (aborted.signal.aborted) return undefined;
      throw seeing.isOurs ? neverTwice(error) : error;
    });
    if (!connection) return await leaving.promise;
    const live = connection;
    sink.attach(live);
    if (seeing.stdin) void pumpInput(live, () => live.endInput());
    else live.endInput(); // some servers keep the input open without it
    const code = await Promise.race([live.ended, leaving.promise]).catch((error: unknown) => {
      const { session_id: sessionId } = live.info;
      throw sessionId === "" ? error : withWayBack(error, target.sprite, sessionId);
    });
    return readerLeft ? signalExitCode("SIGPIPE") : code;
  } finally {
    stopListening();
    connection?.detach();
  }
}

function handlersFor(target: Target, sink: OutputSink, { reconnectForMs }: Seeing): LastingHandlers {
  const sayBetween = (line: string): void => {
    if (process.stderr.isTTY && !sink.atLineStart) process.stderr.write("\n");
    sink.atLineStart = true;
    say(line);
  };
  return {
    output: (stream, data) => sink.write(stream, data),
    lost: () => sayBetween(lostMessage(target.sprite, reconnectForMs)),
    back: ({ afterMs }) => sayBetween(backMessage(target.sprite, afterMs)),
    missing: (bytes) => sayBetween(gapMessage(bytes)),
  };
}

function say(line: string): void {
  process.stderr.write(`${err("dim", line)}\n`);
}

interface SignalCare {
  live: () => LastingConnection | undefined;
  /** Signals that leave at once, although there is a connection. */
  detaches: (name: SignalName) => boolean;
  /** Signals do not get there. */
  isDeaf: () => boolean;
  leave: (code: number) => void;
}

/** Forwards the first signal; what follows, or a command that does not end on TERM, leaves with its code. */
function listenForSignals({ live, detaches, isDeaf, leave }: SignalCare): () => void {
  let count = 0;
  return onSignals((name) => {
    count += 1;
    const connection = live();
    if (detaches(name)) return leave(0);
    if (count > 1 || !connection?.isConnected || isDeaf()) return leave(signalExitCode(name));
    connection.signal(name);
    if (name !== "SIGINT") return void setTimeout(() => leave(signalExitCode(name)), TERMINATION_MS).unref();
    if (process.stderr.isTTY)
      setTimeout(() => process.stderr.write("Interrupt sent; press Ctrl-C again to leave the command.\n"), INTERRUPT_NOTE_MS).unref();
  });
}
