/** Opens the WebSockets of connections and port watches with `ws`; one that is silent too long counts as lost. */
import type { WebSocketLike } from "@sprited/protocol/client/exec";
import { WebSocket } from "ws";

/** Pause between signs of life, ms. */
const PING_MS = 15_000;
/** Silence after which a WebSocket is given up, ms: a laptop that slept must not wait for TCP. */
const SILENCE_MS = 40_000;
/** Largest message taken from a server, bytes. */
const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;

export function openWebSocket(url: string, headers: Record<string, string>): WebSocketLike {
  const socket = new WebSocket(url, { headers, perMessageDeflate: false, maxPayload: MESSAGE_BYTES_MAX });
  let lastHeardMs = performance.now();
  const heard = (): void => {
    lastHeardMs = performance.now();
  };
  for (const event of ["open", "message", "ping", "pong"]) socket.on(event, heard);
  const timer = setInterval(() => {
    if (performance.now() - lastHeardMs > SILENCE_MS) socket.terminate();
    else if (socket.readyState === WebSocket.OPEN) socket.ping();
  }, PING_MS);
  timer.unref();
  socket.on("close", () => clearInterval(timer));
  return socket as unknown as WebSocketLike; // same behaviour, its event types are narrower
}
