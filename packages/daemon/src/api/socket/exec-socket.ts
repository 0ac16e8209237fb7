/**
 * One client's WebSocket on one session, from the open socket to its end. The session outlives
 * the socket; the attachment does not.
 */
import type { Logger } from "@sprited/base";
import type { TerminalSize } from "@sprited/protocol/guest";
import type WebSocket from "ws";
import type { Attachment, ExecSession } from "../../exec/exec.ts";
import type { ApiTimings } from "../handler.ts";
import { cutOffAfter } from "./cut-off.ts";
import { SocketInput } from "./socket-input.ts";
import { SocketOutput } from "./socket-output.ts";

export interface ExecSocketOptions {
  socket: WebSocket;
  session: ExecSession;
  attachment: Attachment;
  /** Size the client asked for; undefined without terminal or when it named none. */
  size: TerminalSize | undefined;
  stdin: boolean;
  /** True for the client that started the command. */
  isOwner: boolean;
  timings: ApiTimings;
  logger: Logger;
}

export interface ExecSocketOutcome {
  outcome: "exit" | "lost" | "detached";
  sentBytes: number;
  ignoredMessages: number;
}

/** Serves the socket; resolves when it is done with. Never rejects. */
export async function serveExecSocket(options: ExecSocketOptions): Promise<ExecSocketOutcome> {
  const { socket, session, attachment, logger } = options;
  socket.on("error", (error) => {
    logger.debug({ event: "exec.socket", err: error }, "the client broke the WebSocket protocol or its connection");
    cutOffAfter(options.timings.closeMs, socket, () => socket.terminate());
  });
  // Closing the attachment ends its output, and with it the pump.
  socket.on("close", () => attachment.close());
  const input = new SocketInput({ socket, session, attachment, stdin: options.stdin, logger });
  using output = new SocketOutput({ socket, tty: session.tty, keepAliveMs: options.timings.keepAliveMs });
  output.text({
    type: "session_info",
    session_id: session.id,
    command: session.command,
    created: Math.floor(session.createdAtMs / 1000),
    cols: options.size?.cols ?? 0,
    rows: options.size?.rows ?? 0,
    is_owner: options.isOwner,
    tty: session.tty,
  });
  const outcome = await pump(options, output);
  attachment.close();
  return { outcome, sentBytes: output.sentBytes, ignoredMessages: input.ignored };
}

async function pump(options: ExecSocketOptions, output: SocketOutput): Promise<ExecSocketOutcome["outcome"]> {
  const { socket, attachment, logger } = options;
  try {
    await output.pump(attachment);
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
