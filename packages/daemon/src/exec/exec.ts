/**
 * The exec feature as the rest of the daemon sees it (docs/spec/exec.md): numbered sessions that
 * outlive clients, links and daemons. Data and interfaces only.
 */
import type { SessionExit, TerminalSize } from "@sprited/protocol/guest";

/** What a session does in the guest. */
export type ExecWork =
  | { kind: "command"; argv: string[]; env: Record<string, string>; dir: string | undefined; tty: TerminalSize | undefined; stdin: boolean }
  /**
   * A TCP connection made inside the sprite: what the peer sends is `stdout`, input is sent to it.
   * Its log stays in memory, bounded and never dropped unread: it holds the peer back.
   */
  | { kind: "connection"; host: string; port: number };

export type ExecCommand = Extract<ExecWork, { kind: "command" }>;

/** Who a session belongs to; only those of `session` are listed and fall under retention. */
export type SessionOwner = "session" | "job" | "proxy";

/** What to start in a sprite. */
export interface ExecRequest {
  work: ExecWork;
  /** How long it runs on without any client, ms; undefined: forever. */
  runAfterDisconnectMs: number | undefined;
  /** Id chosen before (jobs persist theirs first); made here when left out. Decimal digits. */
  id?: string | undefined;
  /**
   * Key of the client's choice: with a key of this sprite that was used before, the session that it started is the answer (EXEC-26). The start
   * then goes on when whoever asked leaves.
   */
  startKey?: string | undefined;
  /** Jobs are not listed among sessions and are kept until `forget`. Default `session`. */
  owner?: SessionOwner;
}

/** An exec session: one command in a sprite (or one connection) with its numbered output. */
export interface ExecSession {
  /** Decimal digits. */
  readonly id: string;
  readonly spriteId: string;
  readonly owner: SessionOwner;
  readonly command: string;
  /** The command's words; empty for a connection. Very long ones are cut. */
  readonly argv: readonly string[];
  /** Directory that was asked for; empty: the home. */
  readonly workdir: string;
  readonly tty: boolean;
  /** The terminal's present size; undefined without terminal. */
  readonly size: TerminalSize | undefined;
  readonly createdAtMs: number;
  readonly endedAtMs: number | undefined;
  /** When output last came, or when the session began. */
  readonly lastOutputAtMs: number;
  /** Clients attached now. */
  readonly clients: number;
  /** Bytes received so far per stream. */
  readonly outputOffsets: { stdout: number; stderr: number };
  /** What of the output can still be read. */
  readonly kept: KeptLog;
  /**
   * Bytes of this client's input (undefined: of all clients without a name): `taken` by the command, never needed again; `accepted` here or
   * beyond, where the client goes on after a lost connection.
   */
  inputOf(client: string | undefined): { accepted: number; taken: number };
  /** Resolves when the above is known: at once, but after a restart of the daemon with the guest's first word. */
  readonly inputKnown: Promise<void>;
  /** The listener is called whenever the command took input. */
  onInputTaken(listener: () => void): () => void;
  /** The session's end; undefined while it runs. */
  readonly end: SessionEnd | undefined;
  /** Resolves at the end; for a job once its log is flushed to the disk. */
  readonly ended: Promise<SessionEnd>;
  /** A client's hold on the session, from the oldest byte kept or from `from`. `client`: the name under which its input is counted. */
  attach(options?: { from?: AttachFrom | undefined; client?: string | undefined }): Attachment;
  /**
   * Output from an offset: of one stream, or of both (`all`: offset is a log position). Ends at
   * the log's present end, with `follow` at the session's end. Holds nothing back.
   */
  readLog(options: LogQuery): AsyncIterable<LogPiece>;
  /** The terminal's picture as bytes that redraw it (scrollback and screen), valid before `position`; undefined without a terminal. */
  screen(): Promise<{ position: number; data: Uint8Array } | undefined>;
  /** Sends a signal, name with or without `SIG`. Wakes the sprite. */
  signal(name: string): void;
}

export interface KeptLog {
  /** Positions of the oldest byte kept and of the next one to come. */
  start: number;
  end: number;
  /** Offsets of the oldest bytes kept. */
  startOffsets: { stdout: number; stderr: number };
}

export interface LogQuery {
  stream: "stdout" | "stderr" | "all";
  offset: number;
  follow: boolean;
  signal: AbortSignal;
}

/** How a session ended: the command's exit, or why its outcome is not known. */
export type SessionEnd = { kind: "exit"; exit: SessionExit } | { kind: "lost"; code: string; reason: string };

/** `position` counts the bytes of both streams in log order: a client that counts what it got goes on exactly there. `start`: oldest byte kept. */
export type AttachFrom = "start" | "end" | { position: number };

export type LogPiece =
  | { kind: "output"; stream: "stdout" | "stderr"; offset: number; position: number; data: Uint8Array }
  /** Bytes from `position` on that are no longer kept: the reader is told, never skipped silently. */
  | {
      kind: "gap";
      position: number;
      bytes: number;
      /** How many bytes of each stream are gone, and the offsets at which the streams go on. */
      streamBytes: { stdout: number; stderr: number };
      streamEnd: { stdout: number; stderr: number };
    };

/** One client's hold on a session. Closing the last one starts the run-on time. */
export interface Attachment {
  /** Log position of the first byte of `output` (of the first gap, when the bytes asked for are gone). */
  readonly position: number;
  /** In order, every byte once; ends when the session ended and all was read. A reader further behind than the log reaches holds the command back. */
  readonly output: AsyncIterable<LogPiece>;
  readonly ended: Promise<SessionEnd>;
  /** Resolves when more may be sent. Without effect after the input was closed. Rejects when the bytes could not be taken: they are to be sent again. */
  write(data: Uint8Array): Promise<void>;
  endInput(): void;
  /** This client's window. The terminal has the size of the client that was active last (EXEC-18). */
  resize(size: TerminalSize): void;
  /**
   * The client has every byte before `position` for good. Only connections wait for it: what was
   * not confirmed is kept and holds the peer back (PROXY-5).
   */
  confirm(position: number): void;
  /** `lost`: the client vanished and may come back; for some seconds the log keeps (and the command waits for) what it has not read. */
  close(options?: { lost?: boolean }): void;
}

export interface Exec {
  /** Wakes the sprite, starts the work, or finds what the start key has started. Throws `ApiError`. */
  start(organizationId: string, spriteName: string, request: ExecRequest, options?: { signal?: AbortSignal }): Promise<ExecSession>;
  /** A running session, or an ended one still kept (any owner). */
  find(organizationId: string, spriteName: string, sessionId: string): ExecSession | undefined;
  /** Sessions of owner `session`, oldest first: those that run, with `ended` also the ended ones still kept. */
  list(organizationId: string, spriteName: string, options?: { ended?: boolean }): ExecSession[];
  /** Frees an ended session's log and record (jobs delete theirs); one that still runs is killed. A missing one is fine. */
  forget(spriteId: string, sessionId: string): Promise<void>;
}
