/**
 * Output of a session or job as a plain body (EXEC-20). A body has no place for a gap: where bytes
 * are missing it is cut off, and the next request's `X-Log-Offset` says where the log goes on.
 */
import type { ExecSession, LogPiece, LogQuery } from "../exec/exec.ts";
import type { ApiContext } from "./handler.ts";
import { CutOff, streamReply } from "./stream-reply.ts";

/** Something with a log: a session, a job. */
export interface LogSource {
  /** Bytes there are now, of one stream or of both. */
  held: Record<LogQuery["stream"], number>;
  /** Undefined: there is no log any more. */
  read(query: LogQuery): AsyncIterable<LogPiece> | undefined | Promise<AsyncIterable<LogPiece> | undefined>;
}

export interface LogReplyQuery {
  stream?: "stdout" | "stderr" | "all" | undefined;
  offset?: number | undefined;
  follow?: boolean | undefined;
}

export function logOfSession(session: ExecSession): LogSource {
  return { held: { ...session.outputOffsets, all: session.kept.end }, read: (query) => session.readLog(query) };
}

/** The log from the asked offset; waits for the first byte only where there is one. */
export async function logReply(context: ApiContext, source: LogSource, query: LogReplyQuery): Promise<Response> {
  const { stream = "all", offset = 0, follow = false } = query;
  const ender = new AbortController();
  const signal = AbortSignal.any([ender.signal, context.shutdown]);
  const log = await source.read({ stream, offset, follow, signal });
  const pieces = log?.[Symbol.asyncIterator]();
  // Where there are bytes, the first piece comes at once and says where the log begins.
  const first = pieces && offset < source.held[stream] ? await firstOutput(pieces) : undefined;
  const reply = streamReply({
    contentType: "application/octet-stream",
    async *pieces() {
      try {
        if (first) yield first.data;
        for (let step = await pieces?.next(); step && !step.done; step = await pieces?.next()) {
          if (step.value.kind === "gap") throw new CutOff("output is no longer kept; the client asks again and learns where it goes on");
          yield step.value.data;
        }
        // A server that stops must not look like the end of the log.
        if (follow && context.shutdown.aborted) throw new CutOff("the server stops");
      } finally {
        await pieces?.return?.();
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
