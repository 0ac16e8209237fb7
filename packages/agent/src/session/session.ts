/**
 * One command and its numbered output. Knows nothing of links: a reader attaches, gets every kept
 * byte from its offsets on, and may go and come back.
 *
 * ```
 * running ──command ended──▶ draining ──both outputs ended, or held open 1 s──▶ ended
 * ```
 *
 * Invariants: one reader at a time; output is read from the command only while less than
 * `retainBytesMax` is unacknowledged; `exit` is shown after the last output byte.
 */
import type { Readable } from "node:stream";
import { after, ignore, sleep } from "@sprited/base";
import { GUEST_LIMITS, type SessionExit, type SessionStart, type TerminalSize } from "@sprited/protocol/guest";
import type { ProcessTable } from "../spawn/process-table.ts";
import { signalName, signalNumber } from "../spawn/signals.ts";
import type { Command } from "../spawn/spawner.ts";
import { InputPipe } from "./input-pipe.ts";
import { type Offsets, type OutputCursor, OutputLog, type OutputPiece, type StreamName } from "./output-log.ts";

/** How long output may be held open by others after the command's own end, ms. */
const LINGER_MS = 1000;
/** How long a signal waits at most for a command that is just being started, and how often it is looked at, ms. */
const LAUNCH_MS = 60_000;
const LAUNCH_LOOK_MS = 20;
/** Signals that a terminal gives to its foreground. */
const FOREGROUND_SIGNALS: ReadonlySet<string> = new Set(["INT", "QUIT", "TSTP", "WINCH"]);

/** Signals that end what is no process. */
const ENDING_SIGNALS: ReadonlySet<string> = new Set(["KILL", "TERM", "INT", "HUP", "QUIT", "PIPE"]);

/** Who reads a session. */
export interface SessionReader {
  /** Whether more output may be given now. */
  readonly isReady: boolean;
  output(piece: OutputPiece): void;
  inputTaken(offset: number): void;
  exit(exit: SessionExit): void;
  /** Another reader took over, or the session was forgotten. */
  replaced(): void;
}

export class Session {
  readonly id: string;
  readonly start: SessionStart;
  readonly startedAtMs = Date.now();
  readonly pid: number | null;
  readonly #command: Command;
  readonly #processes: ProcessTable;
  readonly #log = new OutputLog();
  readonly #input: InputPipe;
  readonly #outputs = new Map<StreamName, Readable>();
  #reader: SessionReader | undefined;
  #cursor: OutputCursor | undefined;
  #commandExit: SessionExit | undefined;
  #exit: SessionExit | undefined;
  #linger: AbortController | undefined;
  #size: TerminalSize | undefined;

  constructor(id: string, start: SessionStart, command: Command, processes: ProcessTable) {
    this.id = id;
    this.start = start;
    this.pid = command.innerPid;
    this.#command = command;
    this.#processes = processes;
    this.#size = "argv" in start ? (start.tty ?? undefined) : undefined;
    this.#input = new InputPipe(command.stdin, {
      isTerminal: "argv" in start && start.tty !== null,
      onTaken: () => this.#reader?.inputTaken(this.#input.taken),
    });
    this.#follow("stdout", command.stdout);
    if (command.stderr) this.#follow("stderr", command.stderr);
    command.ended
      .then((end) => {
        this.#commandExit = end.signal === null ? { code: end.code, signal: null } : { code: null, signal: signalName(end.signal) };
        this.#input.close();
        this.#settle();
      })
      .catch(ignore("never rejects"));
  }

  get exit(): SessionExit | undefined {
    return this.#exit;
  }

  get input(): InputPipe {
    return this.#input;
  }

  /** The terminal's present size; undefined without one. */
  get size(): TerminalSize | undefined {
    return this.#size;
  }

  /** Bytes of output so far, per stream. */
  get outputBytes(): Offsets {
    return this.#log.end;
  }

  /** Offsets from which on output is kept. */
  get keptFrom(): Offsets {
    return this.#log.start;
  }

  /** Gives every kept byte from `from` on to `reader`, then live output, then the exit. False when bytes from there are gone. */
  attach(reader: SessionReader, from: Offsets): boolean {
    const cursor = this.#log.cursor(from);
    if (!cursor) return false;
    const previous = this.#reader;
    this.#reader = reader;
    this.#cursor = cursor;
    previous?.replaced();
    return true;
  }

  /** Leaves the session to run without a reader. */
  detach(reader: SessionReader): void {
    if (this.#reader !== reader) return;
    this.#reader = undefined;
    this.#cursor = undefined;
  }

  /** Gives the reader what it has not got, for as long as it is ready. */
  pump(): void {
    const reader = this.#reader;
    const cursor = this.#cursor;
    if (!reader || !cursor) return;
    while (reader.isReady) {
      const piece = this.#log.read(cursor);
      if (!piece) break;
      reader.output(piece);
    }
    if (!this.#exit) return;
    const { stdout, stderr } = this.#log.end;
    if (cursor.next.stdout === stdout && cursor.next.stderr === stderr) {
      this.#reader = undefined;
      this.#cursor = undefined;
      reader.exit(this.#exit);
    }
  }

  /** Everything before `offsets` is safe with the host. */
  acknowledge(offsets: Offsets): void {
    this.#log.acknowledge(offsets);
    if (this.#isFull()) return;
    for (const output of this.#outputs.values()) if (output.isPaused()) output.resume();
    this.#settle();
  }

  resize(size: TerminalSize): void {
    if (!this.#size) return;
    this.#size = size;
    this.#command.resize(size);
  }

  /** Sends a signal by name (SESS-8). An unknown name does nothing. */
  signal(name: string, waitedMs = 0): void {
    const number = signalNumber(name);
    if (number === undefined || this.#exit) return;
    const { pid } = this.#command;
    if (!this.#commandExit && waitedMs < LAUNCH_MS && this.#command.ignoresYet(number)) {
      after(LAUNCH_LOOK_MS, () => this.signal(name, waitedMs + LAUNCH_LOOK_MS));
      return;
    }
    if (name === "KILL" || pid === undefined) {
      if (pid !== undefined || ENDING_SIGNALS.has(name)) this.kill();
      return;
    }
    const foreground = FOREGROUND_SIGNALS.has(name) ? this.#command.foregroundGroup() : undefined;
    if (foreground === undefined) this.#processes.kill(pid, number);
    else this.#processes.kill(-foreground, number);
  }

  /** Kills every process of the session. */
  kill(): void {
    this.#command.killAll();
  }

  /** Ends the reader's part and lets go of everything kept. */
  forget(): void {
    if (!this.#commandExit) this.kill();
    this.#reader?.replaced();
    this.#reader = undefined;
    this.#cursor = undefined;
    this.#linger?.abort();
    for (const output of this.#outputs.values()) output.destroy();
    this.#command.stdin?.destroy();
  }

  #follow(name: StreamName, output: Readable): void {
    this.#outputs.set(name, output);
    output.on("data", (data: Buffer) => {
      this.#log.append(name, data);
      if (this.#isFull()) for (const each of this.#outputs.values()) each.pause();
      this.pump();
    });
    // A terminal whose last holder is gone reads EIO.
    output.on("error", ignore("the output has ended"));
    output.once("close", () => {
      this.#outputs.delete(name);
      this.#settle();
    });
  }

  #isFull(): boolean {
    return this.#log.retainedBytes >= GUEST_LIMITS.retainBytesMax;
  }

  /** Moves towards the end when the command is gone (SESS-6). */
  #settle(): void {
    if (!this.#commandExit || this.#exit) return;
    if (this.#outputs.size > 0) {
      if (!this.#linger) this.#letLinger();
      return;
    }
    this.#linger?.abort();
    this.#exit = this.#commandExit;
    this.#command.stdin?.destroy();
    this.pump();
  }

  #letLinger(): void {
    const linger = new AbortController();
    this.#linger = linger;
    sleep(LINGER_MS, { signal: linger.signal }).then(() => {
      this.#linger = undefined;
      // Output that waits for the host is the command's own: the acknowledgement begins the wait anew.
      if (!this.#isFull()) for (const output of this.#outputs.values()) output.destroy();
    }, ignore("all output ended before"));
  }
}
