/**
 * Standard input and output joined to a command in a sprite.
 *
 * Invariants: bytes are passed on unchanged and in order; a reader that is slow holds the command
 * back, a command that reads slowly holds our input back; nothing is kept beyond one piece.
 */
import type { ExecConnection } from "@sprited/protocol/client/exec";

const NEWLINE = 0x0a;

/** A source of output that can be held back. */
interface Pausable {
  pause(): unknown;
  resume(): unknown;
}

/** Writes output and tells the source to pause while standard output or error is full. */
export class OutputSink {
  readonly #onClosed: () => void;
  readonly #waiting = new Set<NodeJS.WriteStream>();
  #source: Pausable | undefined;

  /** `onClosed` is called when nobody reads standard output any more. */
  constructor(onClosed: () => void) {
    this.#onClosed = onClosed;
    process.stdout.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") process.stderr.write(`error: Cannot write the output: ${error.code ?? error.message}.\n`);
      this.#onClosed();
    });
    process.stderr.on("error", () => {}); // nobody reads the errors: the command goes on
  }

  /** The source to pause, once there is one. */
  attach(source: Pausable): void {
    this.#source = source;
    if (this.#waiting.size > 0) source.pause();
  }

  /** False when the command's output has left the cursor of a terminal within a line. */
  atLineStart = true;

  write(stream: "stdout" | "stderr", data: Uint8Array): void {
    const sink = stream === "stdout" ? process.stdout : process.stderr;
    if (sink.isTTY && data.length > 0) this.atLineStart = data.at(-1) === NEWLINE;
    if (sink.destroyed || sink.write(data)) return;
    this.hold(sink);
  }

  /** Resolves when nothing is full; for sources that are read piece by piece. */
  async room(): Promise<void> {
    for (const sink of this.#waiting) await new Promise<void>((resolve) => sink.once("drain", resolve));
  }

  /** Pauses the source until `sink` has room again. */
  hold(sink: NodeJS.WriteStream): void {
    if (this.#waiting.has(sink)) return;
    this.#waiting.add(sink);
    this.#source?.pause();
    sink.once("drain", () => {
      this.#waiting.delete(sink);
      if (this.#waiting.size === 0) this.#source?.resume();
    });
  }
}

/** Resolves when everything written so far has left the process, or cannot. */
export async function flushOutput(): Promise<void> {
  const flush = (sink: NodeJS.WriteStream): Promise<void> =>
    new Promise((resolve) => {
      if (sink.destroyed || sink.writableLength === 0) return resolve();
      sink.once("error", () => resolve());
      if (sink.writableEnded) sink.once("finish", () => resolve());
      else sink.write("", () => resolve());
    });
  await Promise.all([flush(process.stdout), flush(process.stderr)]);
}

/** Sends standard input to the command until it ends; then `atEnd`. Never rejects. */
export async function pumpInput(connection: Pick<ExecConnection, "write">, atEnd: () => void): Promise<void> {
  try {
    for await (const chunk of process.stdin) await connection.write(chunk as Uint8Array);
  } catch {
    // Standard input cannot be read (a terminal of another job, a closed descriptor): it counts as ended.
  }
  atEnd();
}
