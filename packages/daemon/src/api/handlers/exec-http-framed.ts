/**
 * The framed answer of exec over HTTP (docs/spec/http-exec.md): every frame has a length, a silent
 * command shows signs of life, an end without outcome says why.
 */
import { ignore } from "@sprited/base";
import {
  encodeHttpExecFrame,
  exitByte,
  HTTP_EXEC_CONTENT_TYPE,
  HTTP_EXEC_OUTPUT_BYTES_MAX,
  type HttpExecFrame,
} from "@sprited/protocol/stream";
import type { Attachment, ExecSession, LogPiece } from "../../exec/exec.ts";
import type { ApiContext } from "../handler.ts";
import { sessionInfo } from "../session-info.ts";
import { LOST_EXIT_CODE } from "../socket/lost.ts";

/** True when the client named the framed type; a wildcard is not enough, because official clients send one. */
export function wantsFrames(accept: string | null): boolean {
  return (accept ?? "").split(",").some((part) => part.split(";")[0]?.trim().toLowerCase() === HTTP_EXEC_CONTENT_TYPE);
}

/** The body, some frames a piece. Ends early when the client is gone. */
export async function* framedOutput(
  context: ApiContext,
  session: ExecSession,
  attachment: Attachment,
  clientGone: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  yield encodeHttpExecFrame({ kind: "session_info", info: { ...sessionInfo(session, { isOwner: true }) } });
  const pieces = attachment.output[Symbol.asyncIterator]();
  for (let next = pieces.next(); ;) {
    const step = await orSilence(context, next, clientGone);
    if (step === "silence") {
      yield encodeHttpExecFrame({ kind: "keep_alive" });
      continue;
    }
    if (step === "gone" || step.done) break;
    yield Buffer.concat(framesOf(step.value).map(encodeHttpExecFrame));
    next = pieces.next();
  }
  if (clientGone.aborted) return;
  const end = await attachment.ended;
  if (end.kind === "lost") yield encodeHttpExecFrame({ kind: "error", error: end.code, message: end.reason });
  yield encodeHttpExecFrame({ kind: "exit", code: end.kind === "exit" ? exitByte(end.exit) : LOST_EXIT_CODE });
}

function framesOf(piece: LogPiece): HttpExecFrame[] {
  if (piece.kind === "gap") return [{ kind: "gap", from: piece.position, to: piece.position + piece.bytes }];
  const frames: HttpExecFrame[] = [];
  for (let at = 0; at < piece.data.length; at += HTTP_EXEC_OUTPUT_BYTES_MAX)
    frames.push({ kind: "output", stream: piece.stream, data: piece.data.subarray(at, at + HTTP_EXEC_OUTPUT_BYTES_MAX) });
  return frames;
}

/** `next`, or the first of: silence for the keep-alive time, the client's leaving. */
async function orSilence<T>(context: ApiContext, next: Promise<T>, clientGone: AbortSignal): Promise<T | "silence" | "gone"> {
  const over = new AbortController();
  const either = AbortSignal.any([over.signal, clientGone]);
  const silence = context.clock.sleep(context.timings.keepAliveMs, { signal: either }).then(
    () => "silence" as const,
    () => "gone" as const,
  );
  try {
    return await Promise.race([next, silence]);
  } finally {
    over.abort();
    next.catch(ignore("thrown again where it is awaited"));
  }
}
