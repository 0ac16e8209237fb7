/** One client's WebSocket on the ports of a sprite (PORT-3): a list first, then changes. It says nothing itself. */
import { every, ignore, type Logger } from "@sprited/base";
import type { GuestListener } from "@sprited/protocol/guest";
import { encodePortEvent, encodePortList } from "@sprited/protocol/stream";
import type WebSocket from "ws";
import type { ApiContext } from "../handler.ts";
import { cutOffAfter } from "./cut-off.ts";

/** Unsent bytes at which a client that does not read is left. */
const BUFFER_BYTES_MAX = 4 * 1024 * 1024;

export interface PortWatchSocketOptions {
  socket: WebSocket;
  context: ApiContext;
  spriteId: string;
  logger: Logger;
}

/** Serves the socket until it closes. */
export function servePortWatch({ socket, context, spriteId, logger }: PortWatchSocketOptions): void {
  const send = (text: string): void => {
    if (socket.readyState !== socket.OPEN) return;
    if (socket.bufferedAmount > BUFFER_BYTES_MAX) socket.terminate();
    else socket.send(text, ignore("the socket is closed"));
  };
  const tell = (type: "port_opened" | "port_closed") => (port: GuestListener) => send(encodePortEvent(type, port));
  const stop = context.features.ports.watch(spriteId, {
    listed: (ports) => send(encodePortList(ports)),
    opened: tell("port_opened"),
    closed: tell("port_closed"),
  });
  // Finds connections that died; what the client answers does not matter.
  const probing = every(context.timings.keepAliveMs, () => socket.ping());
  socket.on("message", ignore("clients have nothing to say here"));
  socket.on("error", (error) => {
    logger.debug({ event: "ports.socket", err: error }, "the client broke the WebSocket protocol or its connection");
    cutOffAfter(context.timings.closeMs, socket, () => socket.terminate());
  });
  socket.once("close", () => {
    probing[Symbol.dispose]();
    stop();
  });
}
