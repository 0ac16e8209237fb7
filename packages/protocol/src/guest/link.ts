import { z } from "zod";

/** Codes of the agent's JSON errors (LINK-4). */
export const guestErrorCode = z.enum(["unauthorized", "not_found", "exists", "invalid", "inner_failed", "busy", "internal"]);
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

export const sessionStart = z.object({
  argv: z.array(z.string()).min(1),
  env: z.record(z.string(), z.string()),
  /** Working directory; the user's home when null. */
  dir: z.string().nullable(),
  tty: terminalSize.nullable(),
  /** False connects the command to an empty input. */
  stdin: z.boolean(),
});
export type SessionStart = z.infer<typeof sessionStart>;

export const sessionResume = z.object({ stdout: z.int().min(0), stderr: z.int().min(0) });
export type SessionResume = z.infer<typeof sessionResume>;

/** How a command ended: an exit code or the name of a signal without `SIG`. */
export const sessionExit = z.object({ code: z.int().min(0).max(255).nullable(), signal: z.string().max(16).nullable() });
export type SessionExit = z.infer<typeof sessionExit>;

export const sessionStarted = z.object({ pid: z.int().nullable(), input: z.int().min(0) });
export const sessionSignal = z.object({ signal: z.string().regex(/^[A-Z0-9]{1,16}$/) });

export const guestSession = z.object({
  id: z.string().regex(/^[0-9]{1,20}$/),
  argv: z.array(z.string()),
  tty: z.boolean(),
  pid: z.int().nullable(),
  started_at_ms: z.number(),
  stdout_bytes: z.int(),
  stderr_bytes: z.int(),
  exit: sessionExit.nullable(),
});
export const guestSessions = z.object({ sessions: z.array(guestSession).max(10_000) });
export type GuestSession = z.infer<typeof guestSession>;
