/**
 * Output of a session or job as a plain body (EXEC-20). A body has no place for a gap: where bytes
 * are missing it is cut off, and the next request's `X-Log-Offset` says where the log goes on.
 */
import type { ExecSession, LogPiece } from "../exec/exec.ts";
import type { ApiContext } from "./handler.ts";
import { streamReply } from "./stream-reply.ts";

/** A body that ends before its end, so that nobody takes it for whole. */
class CutOff extends Error {
  override readonly name = "CutOff";
}

export interface LogReplyQuery {
  stream?: "stdout" | "stderr" | "all" | undefined;
  offset?: number | undefined;
  follow?: boolean | undefined;
}

/** The log from the asked offset; waits for the first byte only where there is one. */
export async function logReply(context: ApiContext, session: ExecSession, query: LogReplyQuery): Promise<Response> {
  const { stream = "all", offset = 0, follow = false } = query;
  const ender = new AbortController();
  const signal = AbortSignal.any([ender.signal, context.shutdown]);
  const pieces = session.readLog({ stream, offset, follow, signal })[Symbol.asyncIterator]();
  const { stdout, stderr } = session.outputOffsets;
  const held = stream === "all" ? session.kept.end : stream === "stdout" ? stdout : stderr;
  const first = offset < held ? await firstOutput(pieces) : undefined;
  const reply = streamReply({
    contentType: "application/octet-stream",
    async *pieces() {
      try {
        if (first) yield first.data;
        for (let step = await pieces.next(); !step.done; step = await pieces.next()) {
          if (step.value.kind === "gap") throw new CutOff("output is no longer kept");
          yield step.value.data;
        }
        // A server that stops must not look like the end of the log.
        if (follow && context.shutdown.aborted) throw new CutOff("the server stops");
      } finally {
        await pieces.return?.();
      }
    },
    onEnd: () => ender.abort(),
  });
  const begin = first === undefined ? offset : stream === "all" ? first.position : first.offset;
  reply.headers.set("x-log-offset", String(begin));
  return reply;
}

type Output = Extract<LogPiece, { kind: "output" }>;

async function firstOutput(pieces: AsyncIterator<LogPiece>): Promise<Output | undefined> {
  for (let step = await pieces.next(); !step.done; step = await pieces.next()) if (step.value.kind === "output") return step.value;
  return undefined;
}
