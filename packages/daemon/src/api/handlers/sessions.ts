/** Handlers of sessions that are not sockets: listing, looking at one, ending one. */
import { durationMs, type KillLine } from "@sprited/protocol/api";
import { ApiError } from "@sprited/protocol/errors";
import { encodeNdjsonLine, exitByte, signalName } from "@sprited/protocol/stream";
import type { ExecSession } from "../../exec/exec.ts";
import type { Caller } from "../../organization/index.ts";
import type { ApiContext, HandlerTable } from "../handler.ts";
import { logOfSession, logReply } from "../log-reply.ts";
import { streamReply } from "../stream-reply.ts";
import { sessionDetailsView } from "../view.ts";

/** Wait for a signalled command's end when the client names none, ms. */
const KILL_WAIT_MS = 10_000;
/** Wait after KILL, ms. */
const KILL_WAIT_AFTER_KILL_MS = 10_000;
/** Longest wait a client may ask for, ms. */
const KILL_WAIT_MS_MAX = 600_000;
/** How often an end is looked for, ms. */
const KILL_POLL_MS = 20;

export const sessionHandlers: Pick<HandlerTable, "listSessions" | "getSession" | "readSessionLog" | "killSession"> = {
  listSessions({ params, query, caller, context }) {
    const nowMs = context.clock.nowMs();
    const sessions = context.features.exec.list(caller.organizationId, params.name, { ended: query.ended ?? false });
    return { sessions: sessions.map((session) => sessionDetailsView(session, nowMs)), count: sessions.length };
  },

  getSession({ params, caller, context }) {
    return sessionDetailsView(requireSession(context, caller, params), context.clock.nowMs());
  },

  async readSessionLog({ params, query, caller, context }) {
    return await logReply(context, logOfSession(requireSession(context, caller, params)), query);
  },

  killSession({ params, query, body, caller, context }) {
    const session = requireSession(context, caller, params);
    if (session.end) throw new ApiError("session_ended", `the session ${session.id} has ended already`);
    const asked = query.signal ?? body?.signal ?? "TERM";
    const signal = signalName(asked);
    if (signal === undefined) throw new ApiError("exec_invalid", "signal is not the name of a signal", { details: { field: "signal" } });
    const waitMs = Math.min(query.timeout ?? bodyTimeout(body?.timeout) ?? KILL_WAIT_MS, KILL_WAIT_MS_MAX);
    return streamReply({
      contentType: "application/x-ndjson",
      async *pieces(abort) {
        for await (const line of killLines(context, session, { signal, waitMs, abort })) yield Buffer.from(encodeNdjsonLine(line));
      },
    });
  },
};

/** Finds a session of the path's sprite, a command's; connections have a place of their own. Throws `sprite_not_found`, `session_not_found`. */
export function requireSession(context: ApiContext, caller: Caller, params: { name: string; session_id: string }): ExecSession {
  context.features.sprites.get(caller.organizationId, params.name);
  const session = context.features.exec.find(caller.organizationId, params.name, params.session_id);
  if (!session || session.owner === "proxy")
    throw new ApiError("session_not_found", `the sprite ${params.name} has no session ${params.session_id.slice(0, 40)}`);
  return session;
}

/** Some clients send the wait in the body: seconds, or a duration. */
function bodyTimeout(timeout: string | number | undefined): number | undefined {
  if (timeout === undefined) return undefined;
  const ms = durationMs(String(timeout));
  if (ms === undefined)
    throw new ApiError("body_invalid", "timeout must be a duration such as 5s, or a number of seconds", { details: { field: "timeout" } });
  return ms;
}

async function* killLines(
  context: ApiContext,
  session: ExecSession,
  options: { signal: string; waitMs: number; abort: AbortSignal },
): AsyncGenerator<KillLine> {
  session.signal(options.signal);
  yield { type: "signal", signal: options.signal, message: `sent ${options.signal}` };
  if (options.waitMs > 0) {
    if (await endsWithin(context, session, options.waitMs, options.abort)) yield { type: "exited", message: "the command ended" };
    else {
      yield { type: "timeout", message: `the command did not end within ${options.waitMs} ms` };
      session.signal("KILL");
      if (await endsWithin(context, session, KILL_WAIT_AFTER_KILL_MS, options.abort))
        yield { type: "killed", message: "the command was killed" };
      else yield { type: "error", message: "the command did not end after KILL; restart the sprite" };
    }
  }
  yield session.end?.kind === "exit" ? { type: "complete", exit_code: exitByte(session.end.exit) } : { type: "complete" };
}

async function endsWithin(context: ApiContext, session: ExecSession, ms: number, abort: AbortSignal): Promise<boolean> {
  const deadline = context.clock.monotonicMs() + ms;
  while (session.end === undefined && !abort.aborted && context.clock.monotonicMs() < deadline) await context.clock.sleep(KILL_POLL_MS);
  return session.end !== undefined;
}
