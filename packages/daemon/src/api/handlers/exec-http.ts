/**
 * Exec over plain HTTP, in the official framing or, for clients that ask for it, in frames with
 * lengths (docs/spec/http-exec.md). The client's leaving ends the attachment; the command then has
 * its run-on time.
 *
 * Invariant: of a client with a name every input byte is taken once. Where its body begins is in
 * the request or where the session is, what the session has is passed over, and a body that breaks off is not its end.
 */
import { ignore } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import { HTTP_EXEC_CONTENT_TYPE } from "@sprited/protocol/stream";
import type { ExecSession } from "../../exec/exec.ts";
import type { Caller } from "../../organization/index.ts";
import type { ApiContext, HandlerTable } from "../handler.ts";
import { attachExec, type OpenedExec, type SocketQuery, startExec } from "../socket/exec-opening.ts";
import { CutOff, streamReply } from "../stream-reply.ts";
import { framedOutput, wantsFrames } from "./exec-http-framed.ts";
import { spacedFrames } from "./exec-http-spaced.ts";

interface HttpQuery extends SocketQuery {
  /** Offset of the body's first byte in the input of a client with a name. */
  input_offset?: number | undefined;
}

/** One request, whichever of the three. */
interface Asked {
  query: HttpQuery;
  caller: Caller;
  spriteName: string;
  context: ApiContext;
  request: Request;
  requestId: string;
  /** Aborts when the client is gone. */
  signal: AbortSignal;
  isFramed: boolean;
}

export const execHttpHandlers: Pick<HandlerTable, "execHttp" | "startHttp" | "attachHttp"> = {
  async execHttp({ params, ...call }) {
    return await started({ ...call, spriteName: params.name, isFramed: wantsFrames(call.request.headers.get("accept")) });
  },

  async startHttp({ params, ...call }) {
    return await started({ ...call, spriteName: params.name, isFramed: true });
  },

  async attachHttp({ params, ...call }) {
    const asked: Asked = { ...call, spriteName: params.name, isFramed: true };
    const at = { caller: call.caller, ...params, gone: call.signal, takeOver: takeOverOf(asked) };
    return answer(asked, await attachExec(call.context, at, { ...call.query, stdin: takesInput(asked), screen: false }));
  },
};

async function started(asked: Asked): Promise<Response> {
  const { context, caller, spriteName, signal } = asked;
  const at = { caller, spriteName, gone: signal, takeOver: takeOverOf(asked) };
  return answer(asked, await startExec(context, at, { ...asked.query, stdin: takesInput(asked) }));
}

function takesInput({ query, request }: Asked): boolean {
  return query.stdin ?? (request.body !== null && request.headers.get("content-length") !== "0");
}

function takeOverOf({ context, query }: Asked): (session: ExecSession) => void {
  return (session) => context.clients.takeOver(session, query.client);
}

/** Input and output of the opened session. Throws `exec_invalid` when the body begins after what the session has. */
function answer(asked: Asked, opened: OpenedExec): Response {
  const { context, request, requestId } = asked;
  const { session, attachment, client } = opened;
  const isNamed = client !== undefined;
  const cut = new AbortController();
  const leave = (): void => {
    attachment.close({ lost: true });
    cut.abort();
  };
  const forget = context.clients.remember(session, client, leave);
  const known = isNamed ? knownInput(asked, opened) : 0; // only now no older connection of the client adds to it
  if (known < 0) {
    forget();
    attachment.close();
    throw new ApiError("exec_invalid", "the input before input_offset has not arrived here", { details: { field: "input_offset" } });
  }
  const startedMs = context.clock.monotonicMs();
  if (opened.stdin && isNamed) void feed(request, opened, { known, cut: cut.signal }).catch(leave);
  else if (opened.stdin)
    void feed(request, opened, { known, cut: cut.signal })
      .finally(() => attachment.endInput())
      .catch(ignore("the client ended its input early; the command sees the end of it"));
  return streamReply({
    contentType: asked.isFramed ? HTTP_EXEC_CONTENT_TYPE : "application/octet-stream",
    pieces: (clientGone) => body(asked, opened, { clientGone, cut: cut.signal }),
    onEnd(outcome, error) {
      forget();
      attachment.close({ lost: isNamed && outcome !== "complete" });
      cut.abort();
      const durationMs = Math.round(context.clock.monotonicMs() - startedMs);
      const end = error instanceof CutOff ? { outcome: "cut" } : { outcome, ...(error ? { err: error } : {}) };
      context.logger.info(
        { event: "exec.http", durationMs, requestId, sprite: asked.spriteName, sessionId: session.id, ...end },
        "exec over HTTP ended",
      );
    },
  });
}

/** How many bytes at the beginning of the body the session has; negative: so many before it are missing. */
function knownInput({ query }: Asked, { session, client }: OpenedExec): number {
  const { accepted } = session.inputOf(client);
  return accepted - (query.input_offset ?? accepted);
}

/** The answer's body; a client with a name is cut off, so that it comes back, when it was replaced or the server stops. */
async function* body(
  { context, isFramed }: Asked,
  opened: OpenedExec,
  ends: { clientGone: AbortSignal; cut: AbortSignal },
): AsyncGenerator<Uint8Array, void, void> {
  const cut = opened.client === undefined ? ends.cut : AbortSignal.any([ends.cut, context.shutdown]);
  const gone = AbortSignal.any([ends.clientGone, cut]);
  yield* isFramed ? framedOutput(context, opened, gone) : spacedFrames(context, opened.attachment, gone);
  if (cut.aborted && !ends.clientGone.aborted) throw new CutOff("the client has come back over another connection, or the server stops");
}

/** The request's body as the command's input, without the first `known` bytes. A client with a name ends its input by the whole body only. */
async function feed(request: Request, opened: OpenedExec, body: { known: number; cut: AbortSignal }): Promise<void> {
  const { attachment } = opened;
  let known = body.known;
  const reader = request.body?.getReader();
  for (;;) {
    const step = await reader?.read();
    if (body.cut.aborted) return;
    if (!step || step.done) break;
    const data = step.value.subarray(Math.min(known, step.value.length));
    known -= step.value.length - data.length;
    if (data.length > 0) await attachment.write(data);
  }
  attachment.endInput();
}
