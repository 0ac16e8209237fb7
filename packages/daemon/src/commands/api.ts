import { readFile } from "node:fs/promises";
import { ApiClient, ConnectionError } from "@sprited/protocol/client";
import { ApiError } from "@sprited/protocol/errors";
import type { Config } from "../config/index.ts";
import { findHolder } from "../lock.ts";
import { CommandError } from "./failure.ts";

/**
 * Talking to the daemon of this home as its administrator: for commands that run beside it.
 */

/** Where a client on this host reaches an address that a server listens on. Pure. */
export function urlOf(address: { host: string; port: number }): string {
  const host = address.host === "0.0.0.0" ? "127.0.0.1" : address.host === "::" ? "::1" : address.host;
  return `http://${host.includes(":") ? `[${host}]` : host}:${address.port}`;
}

/** The admin token of a home. Throws `daemon_unreachable` when there is none yet. */
export async function readToken(tokenPath: string): Promise<string> {
  try {
    return (await readFile(tokenPath, "utf8")).trim();
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === "ENOENT")
      throw new CommandError(
        "daemon_unreachable",
        `There is no token at ${tokenPath}: no daemon has run on this home yet. Start one with npm start.`,
        { cause },
      );
    throw new CommandError("not_root", `The token ${tokenPath} cannot be read (${code}). Run this as the user who owns it.`, { cause });
  }
}

/** A client of the running daemon of this home. */
export async function openAdminClient(config: Config, paths: { tokenPath: string; lockPath: string }): Promise<ApiClient> {
  const baseUrl = findHolder(paths.lockPath)?.url ?? urlOf(config.listen);
  return new ApiClient({ baseUrl, token: await readToken(paths.tokenPath) });
}

/** Runs calls to the daemon; what goes wrong becomes a sentence with an exit code. */
export async function askDaemon<T>(client: ApiClient, work: (client: ApiClient) => Promise<T>): Promise<T> {
  try {
    return await work(client);
  } catch (error) {
    if (error instanceof ConnectionError) {
      throw new CommandError(
        "daemon_unreachable",
        `No daemon answers at ${client.baseUrl}. Start it with npm start (or npx sprited serve).`,
        { cause: error },
      );
    }
    if (ApiError.is(error)) throw new CommandError("failed", error.message, { cause: error });
    throw error;
  }
}
