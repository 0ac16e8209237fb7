/**
 * One client's WebSocket on one session, from the open socket to its end. The session outlives
 * the socket; the attachment does not.
 */
import type { Logger } from "@sprited/base";
import type WebSocket from "ws";
import type { ExecSession } from "../../exec/exec.ts";
import type { ApiTimings, PortCalls } from "../handler.ts";
import { sessionInfo } from "../session-info.ts";
import { cutOffAfter } from "./cut-off.ts";
import type { OpenedExec } from "./exec-opening.ts";
import { SocketInput } from "./socket-input.ts";
import { SocketOutput } from "./socket-output.ts";

export interface ExecSocketOptions extends Omit<OpenedExec, "ports"> {
  socket: WebSocket;
  /** Tells of the sprite's ports; undefined when the client is not to hear of them. */
  ports: PortCalls | undefined;
  timings: ApiTimings;
  logger: Logger;
}

export interface ExecSocketOutcome {
  outcome: "exit" | "lost" | "detached";
  sentBytes: number;
  ignoredMessages: number;
}

/** Close codes of clients that leave: a normal end, going away, a close frame without a code. */
const LEFT: ReadonlySet<number> = new Set([1000, 1001, 1005]);

/** Serves the socket; resolves when it is done with. Never rejects. */
export async function serveExecSocket(options: ExecSocketOptions): Promise<ExecSocketOutcome> {
  const { socket, session, attachment, logger } = options;
  socket.on("error", (error) => {
    logger.debug({ event: "exec.socket", err: error }, "the client broke the WebSocket protocol or its connection");
    cutOffAfter(options.timings.closeMs, socket, () => socket.terminate());
  });
  // Closing the attachment ends its output, and with it the pump.
  socket.on("close", (code) => attachment.close({ lost: !LEFT.has(code) }));
  const input = new SocketInput({ socket, session, attachment, stdin: options.stdin, logger });
  using output = new SocketOutput({ socket, tty: session.tty, keepAliveMs: options.timings.keepAliveMs });
  output.text({
    ...sessionInfo(session, options),
    offset: options.picture?.position ?? attachment.position,
    ...(options.picture ? { screen_bytes: options.picture.data.length } : {}),
    ...(options.inputAcks ? { input_offset: session.inputOf(options.client).accepted } : {}),
  });
  using _acks = options.inputAcks ? acknowledgeInput(session, options.client, output) : undefined;
  using _ports = options.ports ? tellPorts(options.ports, session, output) : undefined;
  const outcome = await pump(options, output);
  attachment.close();
  return { outcome, sentBytes: output.sentBytes, ignoredMessages: input.ignored };
}

/** Tells the client which of its input is safe, several steps in one message. */
function acknowledgeInput(session: ExecSession, client: string | undefined, output: SocketOutput): Disposable {
  let told = 0;
  let isDue = false;
  const tell = (): void => {
    isDue = false;
    const { taken } = session.inputOf(client);
    if (taken > told) output.text({ type: "input_ack", offset: (told = taken) });
  };
  const stop = session.onInputTaken(() => {
    if (isDue) return;
    isDue = true;
    setImmediate(tell);
  });
  tell();
  return { [Symbol.dispose]: stop };
}

/** Tells the client which ports are opened and closed from now on (PORT-4). */
function tellPorts(ports: PortCalls, session: ExecSession, output: SocketOutput): Disposable {
  const stop = ports.watch(session.spriteId, {
    listed: () => {},
    opened: (port) => output.text({ type: "port_opened", ...port }),
    closed: (port) => output.text({ type: "port_closed", ...port }),
  });
  return { [Symbol.dispose]: stop };
}

async function pump(options: ExecSocketOptions, output: SocketOutput): Promise<ExecSocketOutcome["outcome"]> {
  const { socket, attachment, logger } = options;
  try {
    if (options.picture) await output.picture(options.picture.data);
    await output.pump(attachment, { from: options.picture?.position ?? attachment.position });
    if (!output.isOpen) return "detached";
    const end = await attachment.ended;
    output.end(end);
    cutOffAfter(options.timings.closeMs, socket, () => socket.terminate());
    return end.kind;
  } catch (error) {
    logger.error({ event: "exec.socket", err: error }, "an exec socket failed");
    output.end({ kind: "lost", code: "internal", reason: "a fault of the server" });
    cutOffAfter(options.timings.closeMs, socket, () => socket.terminate());
    return "lost";
  }
}
