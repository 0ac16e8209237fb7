/**
 * The daemon's end of the boot port (BOOT-1..6). What the guest writes there is hostile: lines are
 * bounded, what does not fit the schema is dropped, and nobody waits without a deadline.
 */
import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";
import { DeadlineError, ignore, sleep, withDeadline } from "@sprited/base";
import { bootReply, type BootReply, type Bootstrap, GUEST_LIMITS } from "@sprited/protocol/guest";
import { GuestError } from "./errors.ts";
import type { GuestCarrier } from "./link.ts";

/** How often a guest that boots is asked whether it idles, ms. The first question waits in the port for the agent. */
const PROBE_EVERY_MS = 10_000;
/** An `idle` this long after the bootstrap was sent means that an agent began anew, ms. */
const RESEND_AFTER_MS = 2000;
/** How long the other end of a port may take to see that it was closed, ms. */
const CLOSE_TIMEOUT_MS = 200;
/** Bytes a guest may write before the answer that is waited for. */
const CHATTER_BYTES_MAX = 16 * 1024 * 1024;

export type BootCarrier = Pick<GuestCarrier, "openBootPort">;

export interface WaitOptions {
  signal?: AbortSignal | undefined;
  timeoutMs: number;
}

/**
 * Hands the agent its incarnation and key, and resolves when it confirmed clock and randomness
 * (BOOT-4). Throws `GuestError`: `guest_timeout`, `guest_refused_start` with the failed step as its cause,
 * `guest_link_lost` when the port closes.
 */
export async function bootstrapGuest(carrier: BootCarrier, bootstrap: Bootstrap, options: WaitOptions): Promise<void> {
  await withBootPort(carrier, "bootstrap of the guest's agent", options, async (port) => {
    const line = `${JSON.stringify(bootstrap)}\n`;
    if (Buffer.byteLength(line) > GUEST_LIMITS.bootLineBytesMax) {
      throw new GuestError("guest_refused", "the sprite's environment is too long to be handed over: make it shorter");
    }
    let sentMs = performance.now();
    port.write(line);
    for await (const reply of replies(port)) {
      if (reply.type === "idle") {
        if (performance.now() - sentMs < RESEND_AFTER_MS) continue;
        sentMs = performance.now();
        port.write(line);
        continue;
      }
      if (reply.incarnation !== bootstrap.incarnation) continue;
      if (reply.type === "bootstrapped") return;
      throw new GuestError("guest_refused_start", "the guest's agent could not take over its identity", {
        cause: new Error(`step ${reply.step}: ${reply.message}`),
      });
    }
    throw new GuestError("guest_link_lost", "the guest's boot port was closed");
  });
}

/** Resolves when a booting agent is ready for a boot snapshot (BOOT-2). Throws `GuestError`. */
export async function awaitIdle(
  carrier: BootCarrier,
  options: { signal?: AbortSignal | undefined; timeoutMs?: number },
): Promise<{ agentVersion: string }> {
  return await withBootPort(
    carrier,
    "boot of the guest",
    { signal: options.signal, timeoutMs: options.timeoutMs ?? 10 * 60_000 },
    async (port) => {
      const stopAsking = new AbortController();
      askForIdle(port, stopAsking.signal).catch(ignore("ended with the wait"));
      try {
        for await (const reply of replies(port)) if (reply.type === "idle") return { agentVersion: reply.agent_version };
      } finally {
        stopAsking.abort();
      }
      throw new GuestError("guest_link_lost", "the guest's boot port was closed");
    },
  );
}

async function askForIdle(port: Duplex, signal: AbortSignal): Promise<void> {
  for (;;) {
    port.write(`${JSON.stringify({ type: "probe" })}\n`);
    await sleep(PROBE_EVERY_MS, { signal });
  }
}

/** Makes the agent begin a new session on the serial link (BOOT-6). Returns the line that marks where it begins. */
export async function announceSerialLink(carrier: BootCarrier, options: WaitOptions): Promise<Buffer> {
  const nonce = randomBytes(16).toString("hex");
  await withBootPort(carrier, "the serial link", options, async (port) => {
    await new Promise<void>((resolve, reject) => {
      port.write(`${JSON.stringify({ type: "link", nonce })}\n`, (error) => (error ? reject(error) : resolve()));
    });
  });
  return Buffer.from(`${nonce}\n`);
}

/** A boot port has one reader: whoever else wants it waits until the last one has closed it. */
const turns = new WeakMap<BootCarrier, Promise<unknown>>();

async function withBootPort<T>(carrier: BootCarrier, what: string, options: WaitOptions, work: (port: Duplex) => Promise<T>): Promise<T> {
  const before = turns.get(carrier);
  const over = Promise.withResolvers<void>();
  turns.set(carrier, over.promise);
  let port: Duplex | undefined;
  try {
    return await withDeadline(what, options, async (signal) => {
      await before;
      port = await carrier.openBootPort({ signal });
      port.on("error", ignore("a broken port ends the reading"));
      signal.addEventListener("abort", () => port?.destroy(), { once: true });
      return await work(port);
    });
  } catch (error) {
    options.signal?.throwIfAborted();
    if (error instanceof GuestError) throw error;
    if (error instanceof DeadlineError) throw new GuestError("guest_timeout", `no answer from the guest: ${what}`, { cause: error });
    throw new GuestError("guest_link_lost", `the guest cannot be reached: ${what}`, { cause: error });
  } finally {
    // The answer need not wait for the closing, the next reader does.
    Promise.all([before, port && closeGently(port)]).then(() => over.resolve(), ignore("neither rejects"));
  }
}

/** Closes without throwing away what was written: a socket closed with unread bytes in it may do that. */
async function closeGently(port: Duplex): Promise<void> {
  if (!port.destroyed) {
    port.resume();
    port.end();
    const closed = Promise.withResolvers<void>();
    port.once("close", closed.resolve);
    await Promise.race([closed.promise, sleep(CLOSE_TIMEOUT_MS)]);
  }
  port.destroy();
}

/** Valid lines of a port. Throws `guest_protocol` when the guest chatters without end. */
async function* replies(port: Duplex): AsyncGenerator<BootReply> {
  const NEWLINE = 10;
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  let totalBytes = 0;
  let skipping = false;
  for await (const chunk of port as AsyncIterable<Buffer>) {
    totalBytes += chunk.length;
    if (totalBytes > CHATTER_BYTES_MAX) throw new GuestError("guest_protocol", "the guest fills its boot port with noise");
    let at = 0;
    while (at < chunk.length) {
      const end = chunk.indexOf(NEWLINE, at);
      const part = chunk.subarray(at, end < 0 ? chunk.length : end);
      at = end < 0 ? chunk.length : end + 1;
      pendingBytes += part.length;
      skipping ||= pendingBytes > GUEST_LIMITS.bootLineBytesMax;
      if (skipping) pending = [];
      else pending.push(part);
      if (end < 0) continue;
      const reply = skipping ? undefined : parseReply(Buffer.concat(pending).toString("utf8"));
      pending = [];
      pendingBytes = 0;
      skipping = false;
      if (reply) yield reply;
    }
  }
}

function parseReply(line: string): BootReply | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  const parsed = bootReply.safeParse(value);
  return parsed.success ? parsed.data : undefined;
}
