/**
 * Shows a command that runs in a terminal of a sprite on the user's own. Rules CLI-31 to CLI-38 and
 * CLI-45 to CLI-47 of docs/spec/cli.md.
 *
 * Invariants: whatever ends it, the user's terminal is restored before anything else is printed;
 * the session in the sprite goes on unless its command ended.
 */
import type { ExecWhat } from "@sprited/protocol/client/exec";
import type { LastingConnection, LastingHandlers } from "@sprited/protocol/client/lasting-exec";
import { Spinner } from "../output/spinner.ts";
import type { Target } from "../settings/load.ts";
import { ControlKey, DETACH_KEY, INTERRUPT_KEY } from "../terminal/control-key.ts";
import { Screen, type Size } from "../terminal/screen.ts";
import { connectExec } from "./connect.ts";
import { LossNotice } from "./loss-notice.ts";
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
  /** The user pressed Ctrl-C while the connection was lost. */
  | { kind: "gave_way" }
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
  /** How long a lost connection is tried again, ms. */
  reconnectForMs: number;
  /** Nothing is said about an exit, so the cursor stays where the command left it. */
  quietExit?: boolean;
  /** Runs beside the session until its end; `say` shows a line amid its output. */
  beside?: ((say: (line: string) => void) => AsyncDisposable) | undefined;
}

/** Runs until one of the ends. Throws `ApiError`, `ConnectionError` when there was no beginning. */
export async function runTerminal(
  target: Target,
  makeWhat: (size: Size) => ExecWhat,
  { quietExit = false, reconnectForMs, beside }: TerminalOptions,
): Promise<TerminalRun> {
  const screen = new Screen();
  const notice = new LossNotice(screen, { sprite: target.sprite, reconnectForMs });
  const left = Promise.withResolvers<TerminalEnd>();
  const aborted = new AbortController();
  const sink = new OutputSink(() => left.resolve({ kind: "unread" }));
  let connection: LastingConnection | undefined;
  const stopListening = onSignals((name) => {
    left.resolve({ kind: "signal", name });
    aborted.abort();
  });
  await using _beside = beside?.((line) => {
    if (!screen.notice(line)) process.stderr.write(`${line}\n`);
  });
  try {
    connection = await open(target, makeWhat(screen.size ?? DEFAULT_SIZE), {
      screen,
      sink,
      notice,
      reconnectForMs,
      signal: aborted.signal,
    });
    if (!connection) return { end: await left.promise, sessionId: undefined };
    screen.enter();
    const unfollow = followTerminal(screen, connection);
    void sendKeys(connection, (end) => left.resolve(end));
    const ended = connection.ended.then(
      (code): TerminalEnd => ({ kind: "exit", code }),
      (error: unknown): TerminalEnd => ({ kind: "lost", error }),
    );
    const end = await Promise.race([ended, left.promise]);
    unfollow();
    notice.stop();
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
  notice: LossNotice;
  reconnectForMs: number;
  signal: AbortSignal;
}

/** Connects with a spinner; undefined when a signal came first. */
async function open(target: Target, what: ExecWhat, around: Surroundings): Promise<LastingConnection | undefined> {
  const { screen, sink, notice, signal, reconnectForMs } = around;
  using spinner = new Spinner();
  spinner.show(`waking ${target.sprite}`);
  let live: LastingConnection | undefined;
  const handlers: LastingHandlers = {
    output: (_stream, data) => {
      spinner.stop(); // output may come before the connection is handed over
      if (!screen.write(data)) sink.hold(process.stdout);
    },
    lost: () => {
      spinner.stop();
      notice.lost();
    },
    back: (how) => {
      if (!notice.back(how) && live && screen.size) askToDrawAnew(live, screen.size);
    },
    missing: (bytes) => notice.missing(bytes),
  };
  try {
    const onRetry = (message: string): void => spinner.show(`${target.sprite}: ${message}`);
    live = await connectExec(target, what, handlers, { signal, onRetry, reconnectForMs, redrawAfterMs: notice.afterMs });
    sink.attach(live);
    return live;
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
}

/** A change of size makes full-screen programs draw themselves anew. */
function askToDrawAnew(connection: LastingConnection, size: Size): void {
  connection.resize({ cols: size.cols, rows: Math.max(1, size.rows - 1) });
  connection.resize(size);
}

/** Keeps the remote terminal as large as ours. Returns how to stop. */
function followTerminal(screen: Screen, connection: LastingConnection): () => void {
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

/**
 * Sends what is typed, until the detach key, or Ctrl-C while nobody could be told of it. The end of
 * an input that is no terminal is sent as Ctrl-D.
 */
async function sendKeys(connection: LastingConnection, leave: (end: TerminalEnd) => void): Promise<void> {
  const detachKey = new ControlKey(DETACH_KEY);
  const interruptKey = new ControlKey(INTERRUPT_KEY);
  const isTerminal = process.stdin.isTTY;
  let sent = Promise.resolve();
  const send = (data: Uint8Array): void => {
    if (data.length > 0) sent = sent.then(() => connection.write(data));
  };
  process.stdin.on("data", (chunk: Uint8Array) => {
    const interrupts = isTerminal && interruptKey.find(chunk) !== undefined && !connection.isConnected;
    if (interrupts) return leave({ kind: "gave_way" });
    const before = isTerminal ? detachKey.find(chunk) : undefined;
    send(before === undefined ? chunk : chunk.subarray(0, before));
    if (before !== undefined) leave({ kind: "detached" });
  });
  process.stdin.on("end", () => {
    if (!isTerminal) send(END_OF_TRANSMISSION);
  });
  process.stdin.on("error", () => {}); // the terminal is gone: a hang-up follows
}
