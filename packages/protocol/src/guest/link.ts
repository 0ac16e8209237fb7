import { z } from "zod";

/** Codes of the agent's JSON errors (LINK-4). */
export const guestErrorCode = z.enum(["unauthorized", "not_found", "exists", "invalid", "inner_failed", "unreachable", "busy", "internal"]);
export type GuestErrorCode = z.infer<typeof guestErrorCode>;
export const guestError = z.object({ code: guestErrorCode, message: z.string().max(4096) });

export const helloRequest = z.object({
  generation: z.int(),
  incarnation: z.string().max(64),
  nonce: z.string().regex(/^[0-9a-f]{32,128}$/),
  /** Hex HMAC-SHA256, see LINK-1. */
  proof: z.string().regex(/^[0-9a-f]{64}$/),
});
export const helloReply = helloRequest.omit({ nonce: true }).extend({ agent_version: z.string().max(64) });

/** Wall time at sending, ms since the epoch (LINK-5). */
export const clockRequest = z.object({ time_ms: z.number().positive() });

/** How long the disk may stay frozen before the agent thaws it by itself, ms (LINK-6). */
export const freezeRequest = z.object({ timeout_ms: z.int().min(100).max(60_000) });
/** Whether the freeze held from its answer until now; false when the agent had to thaw by itself. */
export const thawReply = z.object({ held: z.boolean() });

/** Whether the disk is flushed when every process stands still (LINK-7). */
export const restRequest = z.object({ sync: z.boolean() });

export const guestStatus = z.object({
  inner: z.enum(["absent", "starting", "running", "failed"]),
  inner_error: z.string().max(4096).nullable(),
  /** How often the inner environment was started in this incarnation. */
  inner_starts: z.int(),
  sessions: z.int(),
  /** The guest's wall time, ms. */
  time_ms: z.number(),
});
export type GuestStatus = z.infer<typeof guestStatus>;

export const terminalSize = z.object({ cols: z.int().min(1).max(65535), rows: z.int().min(1).max(65535) });
export type TerminalSize = z.infer<typeof terminalSize>;

/** A command. */
export const commandStart = z.object({
  argv: z.array(z.string()).min(1),
  env: z.record(z.string(), z.string()),
  /** Working directory; the user's home when null. */
  dir: z.string().nullable(),
  tty: terminalSize.nullable(),
  /** False connects the command to an empty input. */
  stdin: z.boolean(),
});
export type CommandStart = z.infer<typeof commandStart>;

/** What a connection is made to, inside the sprite (CONN-1). */
export const connectTarget = z.object({
  /** Name or IP address; `localhost` is both loopback addresses. */
  host: z.string().min(1).max(253),
  port: z.int().min(1).max(65535),
});
export type ConnectTarget = z.infer<typeof connectTarget>;

/** A TCP connection made inside the sprite. */
export const connectionStart = z.object({ connect: connectTarget });

export const sessionStart = z.union([connectionStart, commandStart]);
export type SessionStart = z.infer<typeof sessionStart>;

/** Why a connection did not come about: the message of an `unreachable` (CONN-2). */
export const connectFailure = z.enum(["refused", "timeout", "no_route", "unknown_host", "forbidden", "failed"]);
export type ConnectFailure = z.infer<typeof connectFailure>;

/** The byte on a connection's `stderr` that says that the peer sends no more (CONN-3). */
export const PEER_END = 4;

export const sessionResume = z.object({ stdout: z.int().min(0), stderr: z.int().min(0) });
export type SessionResume = z.infer<typeof sessionResume>;

/** How a command ended: an exit code or the name of a signal without `SIG`. */
export const sessionExit = z.object({ code: z.int().min(0).max(255).nullable(), signal: z.string().max(16).nullable() });
export type SessionExit = z.infer<typeof sessionExit>;

export const sessionStarted = z.object({
  pid: z.int().nullable(),
  /** Offset up to which the command took its input. */
  input: z.int().min(0),
  /** Offset up to which the agent has input, where that is more. */
  received: z.int().min(0).optional(),
  /** True when no more input comes after that. */
  input_ended: z.boolean().optional(),
});
export const sessionSignal = z.object({ signal: z.string().regex(/^[A-Z0-9]{1,16}$/) });

export const guestSession = z.object({
  id: z.string().regex(/^[0-9]{1,20}$/),
  argv: z.array(z.string()),
  /** What a connection was made to; left out for commands. */
  connect: connectTarget.optional(),
  tty: z.boolean(),
  /** The terminal's present size; left out without one, and by agents of before. */
  size: terminalSize.optional(),
  pid: z.int().nullable(),
  started_at_ms: z.number(),
  stdout_bytes: z.int(),
  stderr_bytes: z.int(),
  /** Offsets from which on output is kept; left out by agents of before. */
  kept_from: sessionResume.optional(),
  exit: sessionExit.nullable(),
});
export const guestSessions = z.object({ sessions: z.array(guestSession).max(10_000) });
export type GuestSession = z.infer<typeof guestSession>;

/** A listening TCP socket of the sprite. */
export const guestListener = z.object({
  port: z.int().min(1).max(65535),
  /** IP address it listens on. */
  address: z.union([z.ipv4(), z.ipv6()]),
  /** Number inside the sprite of a process that has it; 0 when none is known. */
  pid: z.int().min(0),
});
export type GuestListener = z.infer<typeof guestListener>;

/** Most listening sockets that are told of one sprite. */
export const GUEST_LISTENERS_MAX = 1024;

/** Line of `GET /ports` (PORTS-1); an empty list is a sign of life. */
export const portsLine = z.object({
  opened: z.array(guestListener).max(GUEST_LISTENERS_MAX),
  closed: z.array(guestListener).max(GUEST_LISTENERS_MAX),
});
export type PortsLine = z.infer<typeof portsLine>;
