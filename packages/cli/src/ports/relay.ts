/**
 * Joins something local (an accepted connection, standard input and output) with a port in a
 * sprite, both directions and both ends.
 *
 * Invariants: bytes are reported as taken only once the local side has them; the local side ends
 * when the sprite's side did, and is cut when the connection broke.
 */
import type { Duplex, Readable, Writable } from "node:stream";
import { finished } from "node:stream/promises";
import { openProxy } from "@sprited/protocol/client/proxy";
import type { Target } from "../settings/load.ts";
import { openWebSocket } from "./web-socket.ts";

export interface RelayEvents {
  /** Its WebSocket is lost, or came back. */
  lost?(): void;
  back?(): void;
}

export interface LocalEnds {
  input: Readable;
  output: Writable;
  /** Cuts both, as a broken connection is. */
  cut(): void;
}

/** The ends of a socket. */
export function endsOf(socket: Duplex & { resetAndDestroy?: () => unknown }): LocalEnds {
  return { input: socket, output: socket, cut: () => void (socket.resetAndDestroy?.() ?? socket.destroy()) };
}

/** Resolves when both directions have ended and the local side has every byte. Throws `ApiError`, `ConnectionError` when it cannot begin or broke. */
export async function relay(
  target: Target,
  to: { host: string; port: number },
  local: LocalEnds,
  options: RelayEvents & { signal: AbortSignal },
): Promise<void> {
  const { apiUrl, token } = target.server;
  const { input, output } = local;
  const gone = new AbortController();
  const leave = (): void => gone.abort();
  for (const end of new Set([input, output])) end.once("error", leave);
  output.once("close", () => {
    if (!output.writableFinished) leave();
  });
  try {
    const connection = await openProxy(
      { baseUrl: apiUrl, token, sprite: target.sprite, openSocket: openWebSocket },
      to,
      {
        data: (bytes, taken) => void output.write(bytes, taken),
        eof: () => void output.end(),
        ...(options.lost ? { lost: options.lost } : {}),
        ...(options.back ? { back: options.back } : {}),
      },
      { signal: AbortSignal.any([options.signal, gone.signal]) },
    );
    void send(input, connection).catch(leave);
    await connection.ended;
    // The last bytes may still wait for a slow local reader.
    await finished(output, { readable: false, signal: options.signal });
  } catch (error) {
    local.cut();
    // The local side left: nothing is wrong.
    if (gone.signal.aborted && !options.signal.aborted) return;
    throw error;
  }
}

async function send(input: Readable, connection: { write(data: Uint8Array): Promise<void>; end(): void }): Promise<void> {
  for await (const chunk of input as AsyncIterable<Uint8Array>) await connection.write(chunk);
  connection.end();
}
