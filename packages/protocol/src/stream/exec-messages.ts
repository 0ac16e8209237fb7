/**
 * Messages of an exec WebSocket, between bytes and values. Pure; any JavaScript runtime; no
 * schema library, so that a client starts fast.
 *
 * ```
 * without terminal   binary: u8 stream id | payload      text: one JSON object
 * with terminal      binary: raw bytes                   text: one JSON object
 * ```
 *
 * Decoding never throws: what is not understood becomes `ignored` with a reason, because other
 * implementations send messages of their own (docs/spec/api.md, API-11).
 */

export const StreamId = { stdin: 0, stdout: 1, stderr: 2, exit: 3, stdinEof: 4 } as const;
export type StreamId = (typeof StreamId)[keyof typeof StreamId];

/** First message of every exec and attach. */
export interface SessionInfo {
  type: "session_info";
  /** Decimal digits, always a string: a number makes a client drop the message. */
  session_id: string;
  command: string;
  /** Unix time, s. */
  created: number;
  cols: number;
  rows: number;
  is_owner: boolean;
  tty: boolean;
  /** Log position of the first output byte that follows: bytes of both streams in their order. Ours. */
  offset?: number;
  /**
   * Attaching to a terminal without `offset`: so many bytes that draw its picture come first and
   * count in no offset; the log goes on at `offset` after them. Left out: none. Ours.
   */
  screen_bytes?: number;
  /** Bytes of input the session has got so far: a client that comes back goes on there. Ours. */
  input_offset?: number;
}

/** JSON messages from the server. */
export type ServerText =
  | SessionInfo
  /** End of a terminal session; the code under both names that clients read. */
  | { type: "exit"; exit_code: number; code: number }
  /** The session ended without a known outcome, or a request could not be carried out. Ours. */
  | { type: "error"; error: string; message: string }
  /** Input up to this offset is safe: the client need not keep it. Only with `input_acks=true`. Ours. */
  | { type: "input_ack"; offset: number }
  /** Output from log position `from` to `to` is no longer kept; what follows begins at `to`. Ours. */
  | { type: "output_gap"; from: number; to: number };

/** What a client hears. */
export type ServerMessage =
  | { kind: "output"; stream: "stdout" | "stderr"; data: Uint8Array }
  | { kind: "exit"; code: number }
  | { kind: "text"; text: ServerText }
  | { kind: "ignored"; why: string };

/** What a server hears. */
export type ClientMessage =
  | { kind: "input"; data: Uint8Array }
  | { kind: "input_end" }
  | { kind: "resize"; cols: number; rows: number }
  | { kind: "signal"; signal: string }
  | { kind: "ignored"; why: string };

/** One frame of a session without terminal. */
export function encodeFrame(id: StreamId, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(1 + payload.length);
  bytes[0] = id;
  bytes.set(payload, 1);
  return bytes;
}

/** The exit frame: exactly one byte of exit code. */
export function encodeExit(code: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.of(StreamId.exit, code & 0xff);
}

/** Closes the command's input. */
export function encodeInputEnd(): Uint8Array<ArrayBuffer> {
  return Uint8Array.of(StreamId.stdinEof);
}

/** Reads a message from a client. Text never starts input. */
export function decodeClientMessage(message: Uint8Array | string, options: { tty: boolean }): ClientMessage {
  if (typeof message === "string") return decodeClientText(message);
  if (options.tty) return message.length === 0 ? { kind: "ignored", why: "empty" } : { kind: "input", data: message };
  switch (message[0]) {
    case undefined:
      return { kind: "ignored", why: "empty" };
    case StreamId.stdin:
      return { kind: "input", data: message.subarray(1) };
    case StreamId.stdinEof:
      return { kind: "input_end" };
    default:
      return { kind: "ignored", why: "unknown stream id" };
  }
}

function decodeClientText(text: string): ClientMessage {
  const value = parseObject(text);
  if (!value) return { kind: "ignored", why: "text that is not a JSON object" };
  if (value["type"] === "resize") {
    const { cols, rows } = value;
    if (isTerminalExtent(cols) && isTerminalExtent(rows)) return { kind: "resize", cols, rows };
    return { kind: "ignored", why: "resize without a size" };
  }
  if (value["type"] === "signal") {
    const name = typeof value["signal"] === "string" ? signalName(value["signal"]) : undefined;
    return name === undefined ? { kind: "ignored", why: "signal of no known name" } : { kind: "signal", signal: name };
  }
  return { kind: "ignored", why: "text of another type" };
}

/** Reads a message from a server. */
export function decodeServerMessage(message: Uint8Array | string, options: { tty: boolean }): ServerMessage {
  if (typeof message === "string") return decodeServerText(message);
  if (message.length === 0) return { kind: "ignored", why: "keep-alive" };
  if (options.tty) return { kind: "output", stream: "stdout", data: message };
  switch (message[0]) {
    case StreamId.stdout:
      return { kind: "output", stream: "stdout", data: message.subarray(1) };
    case StreamId.stderr:
      return { kind: "output", stream: "stderr", data: message.subarray(1) };
    case StreamId.exit:
      return { kind: "exit", code: message[1] ?? 0 };
    default:
      return { kind: "ignored", why: "unknown stream id" };
  }
}

function decodeServerText(text: string): ServerMessage {
  const value = parseObject(text);
  if (!value) return { kind: "ignored", why: "text that is not a JSON object" };
  switch (value["type"]) {
    case "session_info":
      return { kind: "text", text: sessionInfoOf(value) };
    case "exit": {
      const code = [value["exit_code"], value["code"]].find((candidate) => Number.isInteger(candidate)) as number | undefined;
      return code === undefined
        ? { kind: "ignored", why: "exit without a code" }
        : { kind: "text", text: { type: "exit", exit_code: code, code } };
    }
    case "error":
      return {
        kind: "text",
        text: { type: "error", error: String(value["error"] ?? "internal"), message: String(value["message"] ?? "") },
      };
    case "input_ack": {
      const offset = offsetOf(value["offset"]);
      return offset === undefined
        ? { kind: "ignored", why: "input_ack without an offset" }
        : { kind: "text", text: { type: "input_ack", offset } };
    }
    case "output_gap": {
      const [from, to] = [offsetOf(value["from"]), offsetOf(value["to"])];
      return from === undefined || to === undefined || to < from
        ? { kind: "ignored", why: "output_gap without a range" }
        : { kind: "text", text: { type: "output_gap", from, to } };
    }
    default:
      return { kind: "ignored", why: "text of another type" };
  }
}

function offsetOf(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

/** The fields of a `session_info` that make sense; the others are as of a session without terminal of which nothing is known. */
export function sessionInfoOf(value: Record<string, unknown>): SessionInfo {
  const number = (field: unknown): number => (typeof field === "number" && Number.isFinite(field) ? field : 0);
  const [offset, inputOffset, screenBytes] = [value["offset"], value["input_offset"], value["screen_bytes"]].map(offsetOf);
  return {
    type: "session_info",
    session_id: String(value["session_id"] ?? ""),
    command: String(value["command"] ?? ""),
    created: number(value["created"]),
    cols: number(value["cols"]),
    rows: number(value["rows"]),
    is_owner: value["is_owner"] === true,
    tty: value["tty"] === true,
    ...(offset === undefined ? {} : { offset }),
    ...(inputOffset === undefined ? {} : { input_offset: inputOffset }),
    ...(screenBytes === undefined ? {} : { screen_bytes: screenBytes }),
  };
}

const SIGNALS = new Set(
  "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS".split(
    " ",
  ),
);

/** `SIGTERM`, `TERM` or `term` as `TERM`; undefined for what is no signal. */
export function signalName(text: string): string | undefined {
  const name = text.toUpperCase().replace(/^SIG/, "");
  return SIGNALS.has(name) ? name : undefined;
}

const SIGNAL_NUMBERS: Record<string, number> = {
  HUP: 1,
  INT: 2,
  QUIT: 3,
  ILL: 4,
  TRAP: 5,
  ABRT: 6,
  BUS: 7,
  FPE: 8,
  KILL: 9,
  USR1: 10,
  SEGV: 11,
  USR2: 12,
  PIPE: 13,
  ALRM: 14,
  TERM: 15,
  STKFLT: 16,
  CHLD: 17,
  CONT: 18,
  STOP: 19,
  TSTP: 20,
  TTIN: 21,
  TTOU: 22,
  URG: 23,
  XCPU: 24,
  XFSZ: 25,
  VTALRM: 26,
  PROF: 27,
  WINCH: 28,
  IO: 29,
  PWR: 30,
  SYS: 31,
};

/** The one byte that says how a command ended: its code, or 128 + the signal's number. */
export function exitByte(exit: { code: number | null; signal: string | null }): number {
  if (exit.code !== null) return exit.code & 0xff;
  return 128 + (SIGNAL_NUMBERS[exit.signal ?? ""] ?? 0);
}

/** WebSocket close codes. */
export const CloseCode = {
  /** The command ended; in a terminal session: with code 0. */
  normal: 1000,
  /** The server stops. */
  restart: 1012,
  /** The session's outcome is not known; an `error` message said why. */
  lost: 1011,
  /** Terminal sessions: 4000 + exit code, when that is not 0. */
  terminalExit: 4000,
} as const;

/** The close code after an exit: some clients read nothing else of a terminal session. */
export function closeCodeAfterExit(code: number, options: { tty: boolean }): number {
  return options.tty && code !== 0 ? CloseCode.terminalExit + code : CloseCode.normal;
}

function isTerminalExtent(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= 65_535;
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined; // not JSON: the caller ignores it
  }
}
