/**
 * Opens exec connections: WebSockets with `ws`, or what the caller opens them with.
 *
 * Invariants: the connection is asked for a sign of life every `PING_MS`, so that servers which
 * are silent while the command is do not look lost; a refusal that the server calls temporary is
 * repeated for a while, because nothing was started then.
 */
import { ConnectionError } from "@sprited/protocol/client/errors";
import { type ExecWhat, openExec, type WebSocketLike } from "@sprited/protocol/client/exec";
import { type LastingConnection, type LastingHandlers, type LastingOptions, openLastingExec } from "@sprited/protocol/client/lasting-exec";
import { ApiError, ERRORS } from "@sprited/protocol/errors";
import { WebSocket } from "ws";
import type { Target } from "../settings/load.ts";

/** Pause between signs of life, ms. */
const PING_MS = 15_000;
/** How long a temporary refusal is repeated, ms. */
const RETRY_FOR_MS = 30_000;
/** Pause before the first repetition, ms; it doubles up to `RETRY_PAUSE_MS_MAX`. */
const RETRY_PAUSE_MS = 250;
const RETRY_PAUSE_MS_MAX = 4000;
/** Largest message taken from a server, bytes. */
const MESSAGE_BYTES_MAX = 64 * 1024 * 1024;

export interface ConnectOptions extends Partial<Omit<LastingOptions, "signal">> {
  signal?: AbortSignal;
  /** Called before a repetition with what the server said. */
  onRetry?: (message: string) => void;
  /** Opens the connections; default: over WebSockets. */
  open?: typeof openExec | undefined;
}

/** Starts a command or attaches to a session; without `reconnectForMs` a loss is the end. Throws `ApiError`, `ConnectionError`. */
export async function connectExec(
  target: Target,
  what: ExecWhat,
  handlers: LastingHandlers,
  options: ConnectOptions = {},
): Promise<LastingConnection> {
  const { apiUrl, token } = target.server;
  const deadlineMs = performance.now() + RETRY_FOR_MS;
  // One key for all attempts: whatever becomes of an answer, the command is not started twice.
  const asked = what.kind === "command" && options.reconnectForMs ? { ...what, startKey: crypto.randomUUID() } : what;
  for (let pauseMs = RETRY_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, RETRY_PAUSE_MS_MAX)) {
    try {
      const at = { baseUrl: apiUrl, token, sprite: target.sprite, openSocket, openConnection: options.open ?? openExec };
      return await openLastingExec(at, asked, handlers, { reconnectForMs: 0, ...options });
    } catch (error) {
      if (error instanceof ConnectionError && error.code === "unreachable") {
        throw new ConnectionError("unreachable", `cannot reach ${apiUrl}`, { cause: error.cause });
      }
      const waitMs = Math.max(
        pauseMs,
        Math.min((ApiError.is(error) ? (error.details.retry_after_seconds ?? 0) : 0) * 1000, RETRY_PAUSE_MS_MAX),
      );
      if (!isTemporary(error) || performance.now() + waitMs > deadlineMs) throw error;
      options.onRetry?.(error.message);
      await pause(waitMs, options.signal);
    }
  }
}

function isTemporary(error: unknown): error is ApiError {
  return ApiError.is(error) && error.status === 503 && ERRORS[error.code].retry !== "never";
}

function openSocket(url: string, headers: Record<string, string>): WebSocketLike {
  const socket = new WebSocket(url, { headers, perMessageDeflate: false, maxPayload: MESSAGE_BYTES_MAX });
  const alive = (): void => socket.onmessage?.({ data: Buffer.alloc(0), type: "message", target: socket });
  const timer = setInterval(() => {
    if (socket.isPaused) alive(); // we hold the server back ourselves, so its silence means nothing
    else if (socket.readyState === WebSocket.OPEN) socket.ping();
  }, PING_MS);
  socket.on("pong", alive);
  socket.on("close", () => clearInterval(timer));
  return socket as unknown as WebSocketLike; // same behaviour, its event types are narrower
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    });
  });
}
