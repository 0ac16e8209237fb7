/** The first message of every exec and attach, from what is known of a session. */
import type { SessionInfo } from "@sprited/protocol/stream";
import type { ExecSession } from "../exec/exec.ts";

/** `isOwner`: true for the client that started the command. `size`: that of its terminal, when it named one. */
export function sessionInfo(
  session: ExecSession,
  client: { isOwner: boolean; size?: { cols: number; rows: number } | undefined },
): SessionInfo {
  return {
    type: "session_info",
    session_id: session.id,
    command: session.command,
    created: Math.floor(session.createdAtMs / 1000),
    cols: client.size?.cols ?? 0,
    rows: client.size?.rows ?? 0,
    is_owner: client.isOwner,
    tty: session.tty,
  };
}
