/**
 * Which addresses a host name has inside the sprite. Names are looked up by the sprite's own
 * `getent`, so that its `/etc/hosts`, resolver and network rules decide, never the agent's.
 */
import net from "node:net";
import { ignore, withDeadline } from "@sprited/base";
import type { Spawner } from "../spawn/spawner.ts";
import { ConnectError } from "./connect-error.ts";

/** Longest answer that is read, bytes. */
const ANSWER_BYTES_MAX = 64 * 1024;
/** Addresses that are tried of one name. */
const ADDRESSES_MAX = 8;
const HOST_NAME = /^[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?$/;

/** Addresses of `host`, in the order in which they are to be tried. Throws `ConnectError` `unknown_host`, `timeout`. */
export async function resolveHost(host: string, spawner: Spawner, options: { signal: AbortSignal; timeoutMs: number }): Promise<string[]> {
  const literal = host.startsWith("[") && host.endsWith("]") ? host.slice(1, -1) : host;
  if (net.isIP(literal) !== 0) return [literal];
  if (/^localhost\.?$/i.test(host)) return ["127.0.0.1", "::1"];
  if (!HOST_NAME.test(host)) throw new ConnectError("unknown_host");
  const found = addressesIn(await lookUp(host, spawner, options));
  if (found.length === 0) throw new ConnectError("unknown_host");
  return found;
}

async function lookUp(host: string, spawner: Spawner, options: { signal: AbortSignal; timeoutMs: number }): Promise<string> {
  const command = spawner.start({ argv: ["getent", "ahosts", host], env: {}, dir: "/", tty: null, stdin: false }, {});
  let isRunning = true;
  const stop = (): void => {
    if (isRunning) command.killAll();
  };
  void command.ended.then(() => {
    isRunning = false;
  });
  command.stderr?.resume().on("error", ignore("only the answer counts"));
  try {
    return await withDeadline("looking up a name", options, async (signal) => {
      signal.addEventListener("abort", stop, { once: true });
      const chunks: Buffer[] = [];
      let bytes = 0;
      for await (const chunk of command.stdout as AsyncIterable<Buffer>) {
        chunks.push(chunk);
        bytes += chunk.length;
        if (bytes > ANSWER_BYTES_MAX) break;
      }
      return Buffer.concat(chunks).toString("latin1");
    });
  } finally {
    stop();
    command.stdout.destroy();
    command.stderr?.destroy();
  }
}

/** Addresses in the answer of `getent ahosts`: the first word of each line, each once. Pure. */
export function addressesIn(answer: string): string[] {
  const addresses = answer
    .split("\n")
    .map((line) => line.split(/\s/, 1)[0] ?? "")
    .filter((word) => net.isIP(word) !== 0);
  return [...new Set(addresses)].slice(0, ADDRESSES_MAX);
}
