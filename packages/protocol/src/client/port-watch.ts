/**
 * Watches the ports of a sprite over as many WebSockets as it takes. No schema library here, so
 * that a command line tool starts fast.
 */
import { ApiError } from "../errors.ts";
import { type PortEvent, portEventOf } from "../stream/port-messages.ts";
import { pauseBefore } from "./back-off.ts";
import { ConnectionError } from "./errors.ts";
import { type ExecTarget, globalSocket, onRefusal } from "./exec.ts";

export type WatchedPort = Omit<PortEvent, "type">;

export interface PortHandlers {
  /** What listens now; again after every lost WebSocket. */
  listed(ports: readonly WatchedPort[]): void;
  opened(port: WatchedPort): void;
  closed(port: WatchedPort): void;
}

/** Watches until the signal aborts. Throws `ApiError` when the server refuses for good. */
export async function watchPorts(target: ExecTarget, handlers: PortHandlers, options: { signal: AbortSignal }): Promise<void> {
  const { signal } = options;
  for (let attempt = 0; !signal.aborted; attempt += 1) {
    await pause(pauseBefore(attempt, Math.random()), signal);
    if (signal.aborted) return;
    try {
      await watchOnce(target, handlers, {
        signal,
        onOpen: () => {
          attempt = 0;
        },
      });
    } catch (error) {
      if (ApiError.is(error) && error.status < 500 && error.status !== 429) throw error;
    }
  }
}

/** One WebSocket from its opening to its end. Rejects with why it ended. */
async function watchOnce(target: ExecTarget, handlers: PortHandlers, options: { signal: AbortSignal; onOpen(): void }): Promise<void> {
  const { baseUrl, token, sprite, openSocket } = target;
  const url = `${baseUrl.replace(/^http/, "ws").replace(/\/+$/, "")}/v1/sprites/${encodeURIComponent(sprite)}/ports/watch`;
  const socket = (openSocket ?? globalSocket)(url, { authorization: `Bearer ${token}` });
  const over = Promise.withResolvers<void>();
  onRefusal(socket, over.reject);
  socket.onopen = options.onOpen;
  socket.onerror = (event: { error?: unknown }) =>
    over.reject(new ConnectionError("unreachable", "the WebSocket broke", { cause: event.error }));
  socket.onclose = () => over.reject(new ConnectionError("closed", "the connection to the server ended"));
  socket.onmessage = (event: { data: unknown }) => {
    if (typeof event.data === "string") hear(event.data, handlers);
  };
  const stop = (): void => over.resolve();
  options.signal.addEventListener("abort", stop, { once: true });
  try {
    await over.promise;
  } finally {
    options.signal.removeEventListener("abort", stop);
    socket.onmessage = null;
    // Without a closing handshake where that can be: a server that is gone would keep us waiting for it.
    const { terminate } = socket as { terminate?: () => void };
    if (terminate) terminate.call(socket);
    else socket.close(1000);
  }
}

function hear(text: string, handlers: PortHandlers): void {
  const value = parseObject(text);
  if (!value) return;
  const { type, ports } = value;
  if (type === "port_list" && Array.isArray(ports)) {
    handlers.listed(ports.flatMap((port: unknown) => portEventOf({ ...(port as object), type: "port_opened" }) ?? []));
    return;
  }
  const event = portEventOf(value);
  if (event?.type === "port_opened") handlers.opened(event);
  if (event?.type === "port_closed") handlers.closed(event);
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined; // not of this API
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}
