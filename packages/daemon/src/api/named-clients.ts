/**
 * Clients that gave themselves a name and may come back under it, over a WebSocket or plain HTTP.
 *
 * Invariant: of a session's connections of one name the newest counts; the one before is ended
 * before the newest is attached, so that none of its input arrives late (EXEC-15).
 */
import type { ExecSession } from "../exec/exec.ts";

type SessionKey = Pick<ExecSession, "id" | "spriteId">;

export class NamedClients {
  /** How to end the connection of a client, by session and name. */
  readonly #leave = new Map<string, () => void>();

  /** Ends the older connection of a client that comes back. */
  takeOver(session: SessionKey, client: string | undefined): void {
    if (client !== undefined) this.#leave.get(keyOf(session, client))?.();
  }

  /**
   * Makes a connection the client's newest; one that was opened meanwhile is ended. `leave` ends this one. Returns what forgets it, to be
   * called when the connection is over.
   */
  remember(session: SessionKey, client: string | undefined, leave: () => void): () => void {
    if (client === undefined) return () => {};
    this.takeOver(session, client);
    const key = keyOf(session, client);
    this.#leave.set(key, leave);
    return () => {
      if (this.#leave.get(key) === leave) this.#leave.delete(key);
    };
  }
}

function keyOf(session: SessionKey, client: string): string {
  return `${session.spriteId}/${session.id}/${client}`;
}
