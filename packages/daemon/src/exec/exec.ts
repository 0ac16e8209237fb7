import type { SessionExit, TerminalSize } from "@sprited/protocol/guest";

/** A command to run in a sprite. */
export interface ExecRequest {
  argv: string[];
  env: Record<string, string>;
  dir: string | undefined;
  tty: TerminalSize | undefined;
  stdin: boolean;
  /** How long the command runs on without any client, ms; undefined: forever. */
  runAfterDisconnectMs: number | undefined;
}

/** An exec session: one command in a sprite with its numbered output. */
export interface ExecSession {
  /** Decimal digits. */
  readonly id: string;
  readonly command: string;
  /** Directory that was asked for; empty: the home, or not known any more. */
  readonly workdir: string;
  readonly tty: boolean;
  readonly createdAtMs: number;
  /** When output last came, or when the session began. */
  readonly lastOutputAtMs: number;
  /** Clients attached now. */
  readonly clients: number;
  /** Bytes received so far per stream. */
  readonly outputOffsets: { stdout: number; stderr: number };
  /** The command's end; undefined while it runs. */
  readonly end: SessionEnd | undefined;
  /** Attaches a reader from the log's oldest byte (or from `from`); one attachment per client. */
  attach(options?: { fromStart?: boolean }): Attachment;
  /** Sends a signal, name with or without `SIG`. */
  signal(name: string): void;
}

/** How a session ended: the command's exit, or why its outcome is not known. */
export type SessionEnd = { kind: "exit"; exit: SessionExit } | { kind: "lost"; code: string; reason: string };

export type OutputChunk = { stream: "stdout" | "stderr"; offset: number; data: Uint8Array };

/** One client's hold on a session. Closing the last one starts the run-on time. */
export interface Attachment {
  /**
   * Output in order, every byte once; ends when the session ended and all was read.
   * A reader that falls behind holds the command back, bounded in memory.
   */
  readonly output: AsyncIterable<OutputChunk>;
  /** Resolves when the session ended. */
  readonly ended: Promise<SessionEnd>;
  /** Resolves when more may be sent. Throws when input is closed. */
  write(data: Uint8Array): Promise<void>;
  endInput(): void;
  resize(size: TerminalSize): void;
  close(): void;
}

export interface Exec {
  /** Wakes the sprite, starts the command. Throws `ApiError`. */
  start(organizationId: string, spriteName: string, request: ExecRequest, options?: { signal?: AbortSignal }): Promise<ExecSession>;
  find(organizationId: string, spriteName: string, sessionId: string): ExecSession | undefined;
  list(organizationId: string, spriteName: string): ExecSession[];
}
