/**
 * What lies between an exec or attach request and its socket: the session, the client's hold on
 * it, and where the client begins (EXEC-19, EXEC-20). Everything that can be refused is refused here.
 */
import { withDeadline } from "@sprited/base";
import type { TerminalSize } from "@sprited/protocol/guest";
import type { Attachment, ExecSession } from "../../exec/exec.ts";
import type { Caller } from "../../organization/index.ts";
import { type ExecQuery, execRequest } from "../exec-request.ts";
import type { ApiContext } from "../handler.ts";
import { requireSession } from "../handlers/sessions.ts";

/** Query of both exec sockets. */
export interface SocketQuery extends ExecQuery {
  /** Log position from which the client wants the output. */
  offset?: number | undefined;
  /** False: raw output instead of a terminal's picture. */
  screen?: boolean | undefined;
  input_acks?: boolean | undefined;
  ports?: boolean | undefined;
  client?: string | undefined;
}

/** A session with the client's hold on it, and what the client is told of it. */
export interface OpenedExec {
  session: ExecSession;
  attachment: Attachment;
  /** Size the client asked for; undefined without terminal or when it named none. */
  size: TerminalSize | undefined;
  stdin: boolean;
  /** True for the client that started the command. */
  isOwner: boolean;
  /** The terminal's picture, sent first; output before its position is not sent. */
  picture: { position: number; data: Uint8Array } | undefined;
  /** Whether the client is told which input is safe. */
  inputAcks: boolean;
  /** Whether the client is told of ports; undefined: in a terminal session it is. */
  ports: boolean | undefined;
  /** Name by which the client will come back; undefined when it gave none. */
  client: string | undefined;
}

/**
 * Starts the command, or finds what its start key has started; `gone` gives it up, unless it has a key. `takeOver` is called before the client
 * is attached. Throws `ApiError`, `DeadlineError`.
 */
export async function startExec(
  context: ApiContext,
  at: { caller: Caller; spriteName: string; gone: AbortSignal; takeOver(session: ExecSession): void },
  query: SocketQuery,
): Promise<OpenedExec> {
  const { features, timings } = context;
  const asked = execRequest(query);
  return await withDeadline("starting the command", { timeoutMs: timings.execStartMs, signal: at.gone }, async (signal) => {
    const session = await features.exec.start(at.caller.organizationId, at.spriteName, asked, { signal });
    at.takeOver(session);
    const { client } = ours(query);
    const attachment = session.attach({ from: asked.startKey === undefined ? "start" : { position: 0 }, client });
    if (asked.work.tty) attachment.resize(asked.work.tty);
    // Too late: nobody waits any more. Without a client the command has its run-on time.
    if (signal.aborted) attachment.close();
    const { tty: size, stdin } = asked.work;
    return { session, attachment, size, stdin, isOwner: true, picture: undefined, ...ours(query) };
  });
}

/** Attaches to a session. `takeOver` is called before, with the session. Throws `ApiError`, `DeadlineError`. */
export async function attachExec(
  context: ApiContext,
  at: { caller: Caller; name: string; session_id: string; gone: AbortSignal; takeOver(session: ExecSession): void },
  query: SocketQuery,
): Promise<OpenedExec> {
  const session = requireSession(context, at.caller, at);
  at.takeOver(session);
  const wantsPicture = session.tty && !session.end && query.offset === undefined && query.screen !== false;
  // The reader holds its place while the picture is drawn.
  const from = wantsPicture ? "end" : query.offset === undefined ? "start" : { position: query.offset };
  const attachment = session.attach({ from, client: ours(query).client });
  try {
    return await withDeadline("attaching", { timeoutMs: context.timings.execStartMs, signal: at.gone }, async () => {
      const size = session.tty && query.cols && query.rows ? { cols: query.cols, rows: query.rows } : undefined;
      if (size) attachment.resize(size);
      const picture = wantsPicture ? await session.screen() : undefined;
      if (query.input_acks) await session.inputKnown;
      return { session, attachment, size, stdin: query.stdin ?? true, isOwner: false, picture, ...ours(query) };
    });
  } catch (error) {
    attachment.close();
    throw error;
  }
}

function ours(query: SocketQuery): Pick<OpenedExec, "inputAcks" | "client" | "ports"> {
  return { inputAcks: query.input_acks ?? false, ports: query.ports, client: query.client || undefined };
}
