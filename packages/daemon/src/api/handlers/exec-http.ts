/**
 * Exec over plain HTTP, in the official framing or, for clients that ask for it, in frames with
 * lengths (docs/spec/http-exec.md). The client's leaving ends the attachment; the command then has
 * its run-on time.
 */
import { ignore, withDeadline } from "@sprited/base";
import { HTTP_EXEC_CONTENT_TYPE } from "@sprited/protocol/stream";
import type { Attachment } from "../../exec/exec.ts";
import { execRequest } from "../exec-request.ts";
import type { HandlerTable } from "../handler.ts";
import { streamReply } from "../stream-reply.ts";
import { framedOutput, wantsFrames } from "./exec-http-framed.ts";
import { spacedFrames } from "./exec-http-spaced.ts";

export const execHttp: HandlerTable["execHttp"] = async ({ params, query, caller, context, request, requestId, signal }) => {
  const hasBody = request.body !== null && request.headers.get("content-length") !== "0";
  const stdin = query.stdin ?? hasBody;
  const asked = execRequest({ ...query, stdin });
  const session = await withDeadline("starting the command", { timeoutMs: context.timings.execStartMs, signal }, (deadline) =>
    context.features.exec.start(caller.organizationId, params.name, asked, { signal: deadline }),
  );
  const attachment = session.attach({ from: "start" });
  const startedMs = context.clock.monotonicMs();
  if (stdin) void feed(request, attachment).catch(ignore("the client ended its input early; the command sees the end of it"));
  const framed = wantsFrames(request.headers.get("accept"));
  return streamReply({
    contentType: framed ? HTTP_EXEC_CONTENT_TYPE : "application/octet-stream",
    pieces: (clientGone) =>
      framed ? framedOutput(context, session, attachment, clientGone) : spacedFrames(context, attachment, clientGone),
    onEnd(outcome, error) {
      attachment.close();
      const durationMs = Math.round(context.clock.monotonicMs() - startedMs);
      context.logger.info(
        {
          event: "exec.http",
          outcome,
          durationMs,
          requestId,
          sprite: params.name,
          sessionId: session.id,
          ...(error ? { err: error } : {}),
        },
        "exec over HTTP ended",
      );
    },
  });
};

/** The request's body as the command's input. */
async function feed(request: Request, attachment: Attachment): Promise<void> {
  try {
    const reader = request.body?.getReader();
    for (;;) {
      const step = await reader?.read();
      if (!step || step.done) return;
      await attachment.write(step.value);
    }
  } finally {
    attachment.endInput();
  }
}
