/**
 * Shows a command that runs in a terminal of a sprite on the user's own. Rules CLI-31 to CLI-38 of
 * docs/spec/cli.md.
 *
 * Invariants: whatever ends it, the user's terminal is restored before anything else is printed;
 * the session in the sprite goes on unless its command ended.
 */
import type { ExecConnection, ExecWhat } from "@sprited/protocol/client/exec";
import { Spinner } from "../output/spinner.ts";
import type { Target } from "../settings/load.ts";
import { DetachKey } from "../terminal/detach-key.ts";
import { Screen, type Size } from "../terminal/screen.ts";
import { connectExec } from "./connect.ts";
import { onSignals, type SignalName } from "./signals.ts";
import { OutputSink } from "./stdio.ts";

/** End of transmission: what a terminal sends for Ctrl-D. */
const END_OF_TRANSMISSION = Uint8Array.of(4);
/** Assumed when the output is no terminal. */
const DEFAULT_SIZE: Size = { cols: 80, rows: 24 };

export type TerminalEnd =
  | { kind: "exit"; code: number }
  /** The user pressed Ctrl-\. */
  | { kind: "detached" }
  | { kind: "lost"; error: unknown }
  | { kind: "signal"; name: SignalName }
  /** Nobody reads the output any more. */
  | { kind: "unread" };

export interface TerminalRun {
  end: TerminalEnd;
  /** Undefined when the connection never came about. */
  sessionId: string | undefined;
}

/** How a terminal is shown. */
export interface TerminalOptions {
  /** Nothing is said about an exit, so the cursor stays where the command left it. */
  quietExit?: boolean;
}

/** Runs until one of the ends. Throws `ApiError`, `ConnectionError` when there was no beginning. */
export async function runTerminal(
  target: Target,
  makeWhat: (size: Size) => ExecWhat,
  { quietExit = false }: TerminalOptions = {},
): Promise<TerminalRun> {
  const screen = new Screen();
  const left = Promise.withResolvers<TerminalEnd>();
  const aborted = new AbortController();
  const sink = new OutputSink(() => left.resolve({ kind: "unread" }));
  let connection: ExecConnection | undefined;
  const stopListening = onSignals((name) => {
    left.resolve({ kind: "signal", name });
    aborted.abort();
  });
  try {
    connection = await open(target, makeWhat(screen.size ?? DEFAULT_SIZE), { screen, sink, signal: aborted.signal });
    if (!connection) return { end: await left.promise, sessionId: undefined };
    screen.enter();
    const unfollow = followTerminal(screen, connection);
    void sendKeys(connection, () => left.resolve({ kind: "detached" }));
    const ended = connection.ended.then(
      (code): TerminalEnd => ({ kind: "exit", code }),
      (error: unknown): TerminalEnd => ({ kind: "lost", error }),
    );
    const end = await Promise.race([ended, left.promise]);
    unfollow();
    connection.detach();
    await screen.leaveQuietly({ freshLine: !(quietExit && end.kind === "exit") });
    return { end, sessionId: connection.info.session_id };
  } finally {
    screen.leave();
    stopListening();
    process.stdin.pause();
  }
}

/** What a connection is opened for. */
interface Surroundings {
  screen: Screen;
  sink: OutputSink;
  signal: AbortSignal;
}

/** Connects with a spinner; undefined when a signal came first. */
async function open(target: Target, what: ExecWhat, { screen, sink, signal }: Surroundings): Promise<ExecConnection | undefined> {
  using spinner = new Spinner();
  spinner.show(`waking ${target.sprite}`);
  const output = (_stream: "stdout" | "stderr", data: Uint8Array): void => {
    spinner.stop(); // output may come before the connection is handed over
    if (!screen.write(data)) sink.hold(process.stdout);
  };
  try {
    const connection = await connectExec(
      target,
      what,
      { output },
      { signal, onRetry: (message) => spinner.show(`${target.sprite}: ${message}`) },
    );
    sink.attach(connection);
    return connection;
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
}

/** Keeps the remote terminal as large as ours. Returns how to stop. */
function followTerminal(screen: Screen, connection: ExecConnection): () => void {
  const resize = (): void => {
    screen.resized();
    if (screen.size) connection.resize(screen.size);
  };
  const resume = (): void => {
    screen.reenter();
    resize(); // makes full-screen programs draw anew
  };
  process.stdout.on("resize", resize);
  process.on("SIGCONT", resume);
  resize();
  return () => {
    process.stdout.off("resize", resize);
    process.off("SIGCONT", resume);
  };
}

/** Sends what is typed, until the detach key. The end of an input that is no terminal is sent as Ctrl-D. */
async function sendKeys(connection: ExecConnection, onDetach: () => void): Promise<void> {
  const detachKey = new DetachKey();
  const isTerminal = process.stdin.isTTY;
  let sent = Promise.resolve();
  const send = (data: Uint8Array): void => {
    if (data.length > 0) sent = sent.then(() => connection.write(data));
  };
  process.stdin.on("data", (chunk: Uint8Array) => {
    const before = isTerminal ? detachKey.find(chunk) : undefined;
    send(before === undefined ? chunk : chunk.subarray(0, before));
    if (before !== undefined) onDetach();
  });
  process.stdin.on("end", () => {
    if (!isTerminal) send(END_OF_TRANSMISSION);
  });
  process.stdin.on("error", () => {}); // the terminal is gone: a hang-up follows
}
