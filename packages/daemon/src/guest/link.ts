import type { Duplex } from "node:stream";
import type {
  Bootstrap,
  FileRequest,
  GuestSession,
  GuestStatus,
  PortsLine,
  SessionExit,
  SessionResume,
  SessionStart,
  TerminalSize,
} from "@sprited/protocol/guest";
import type { GuestFileCall } from "./file-call.ts";

/**
 * The daemon's end of the talk with one VM's agent (docs/spec/guest-protocol.md). One HTTP/2
 * session over one carrier; when it breaks, `closed` resolves and a new link must be opened.
 * Everything that arrives was validated; a violation closes the link with `guest_protocol`.
 */
export interface GuestLink extends AsyncDisposable {
  readonly incarnation: string;
  readonly agentVersion: string;
  /** Resolves when the link is gone, with the reason. Never rejects. */
  readonly closed: Promise<Error>;
  status(options?: CallOptions): Promise<GuestStatus>;
  listSessions(options?: CallOptions): Promise<GuestSession[]>;
  /**
   * Begins a session stream with `start` (SESS-1). Resolves when the agent accepted the stream; for
   * a connection when it is made, and rejects with `guest_unreachable` when it cannot be.
   */
  startSession(id: string, start: SessionStart, options?: CallOptions): Promise<SessionStream>;
  /** Begins a session stream with `resume` (SESS-4). */
  attachSession(id: string, resume: SessionResume, options?: CallOptions): Promise<SessionStream>;
  /** Forgets an ended session, kills and forgets a running one. Missing is fine. */
  deleteSession(id: string, options?: CallOptions): Promise<void>;
  /** Ends the inner environment and unmounts the disk; afterwards the VM may be killed. */
  stop(graceMs: number, options?: CallOptions): Promise<void>;
  sync(options?: CallOptions): Promise<void>;
  /** Steps the guest's wall clock to the time of now (LINK-5). */
  setClock(options?: CallOptions): Promise<void>;
  /** Begins a call on files (FILE-1). Throws `GuestError` when the link is closed. */
  openFileCall(request: FileRequest, options: { signal?: AbortSignal | undefined; firstAnswerMs: number }): GuestFileCall;
  /** Listening ports: all that are there now, then every change. Ends with the signal; throws `GuestError` when the link breaks. */
  watchPorts(options: { signal: AbortSignal }): AsyncIterable<PortsLine>;
  /**
   * Writes everything to the disk and keeps the guest from writing until `thaw`. The agent thaws
   * by itself after `freezeMs`, whatever becomes of the link (LINK-6).
   */
  freeze(freezeMs: number, options?: CallOptions): Promise<void>;
  /** Ends a freeze. Returns whether it held: when not, what was read of the disk meanwhile is no state. */
  thaw(options?: CallOptions): Promise<{ held: boolean }>;
  /** Stops every process of the sprite until the next bootstrap; with `sync` its disk is then flushed (LINK-7). */
  rest(request: { sync: boolean }, options?: CallOptions): Promise<void>;
}

export interface CallOptions {
  signal?: AbortSignal | undefined;
  timeoutMs?: number | undefined;
}

/** What an agent sends on a session stream, validated. */
export type SessionEvent =
  | { type: "started"; pid: number | null; inputTaken: number; inputReceived: number; inputEnded: boolean }
  | { type: "output"; stream: "stdout" | "stderr"; offset: number; data: Uint8Array }
  | { type: "exit"; exit: SessionExit }
  | { type: "failed"; code: string; message: string }
  | { type: "input_taken"; offset: number };

/** One session stream. Reading slowly holds the command back (HTTP/2 flow control). */
export interface SessionStream {
  /** Every event in order; ends after `exit` or `failed`, throws `GuestError` when the link breaks. */
  readonly events: AsyncIterable<SessionEvent>;
  /** Sends input at `offset`; resolves when the transport takes more. */
  sendInput(offset: number, data: Uint8Array): Promise<void>;
  /** Closes the command's input after `offset` bytes. */
  endInput(offset: number): void;
  resize(size: TerminalSize): void;
  /** Signal name without `SIG`. */
  signal(name: string): void;
  /** Every byte before these offsets is safe on this side. */
  acknowledge(offsets: { stdout: number; stderr: number }): void;
  /** Leaves the stream; the session runs on in the guest. */
  close(): void;
}

/** How to reach an agent: where the link goes and how it is bootstrapped. */
export interface GuestCarrier {
  /** Opens the boot port. */
  openBootPort(options: { signal: AbortSignal }): Promise<Duplex>;
  /** TCP address of the agent, or the serial link port where there is no network. */
  link: { kind: "tcp"; host: string; port: number } | { kind: "serial"; open(options: { signal: AbortSignal }): Promise<Duplex> };
}

export interface LinkKey {
  incarnation: string;
  /** 32 random bytes; kept by the daemon so that it can dial again after a restart. */
  key: Uint8Array;
}

export type { Bootstrap };
