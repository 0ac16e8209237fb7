/**
 * Client of QEMU's control protocol: JSON objects, one a line. A session is one connection;
 * commands may be sent without waiting for each other, replies are matched by id.
 *
 * The peer is not trusted: lines are bounded and validated, and a violation ends the session
 * with `vmm_control`.
 */
import { once } from "node:events";
import fs from "node:fs/promises";
import net from "node:net";
import path from "node:path";
import type { Duplex } from "node:stream";
import { DeadlineError, ignore, sleep, withDeadline } from "@sprited/base";
import { z } from "zod";
import { VmmError } from "../errors.ts";

/** Longest line that is read, bytes: the console's ring buffer as an escaped string fits. */
export const QMP_LINE_BYTES_MAX = 1_048_576;
/** Default limit of one command, ms. */
const COMMAND_TIMEOUT_MS = 15_000;
/** How often a socket that is not there yet is tried, ms. */
const CONNECT_EVERY_MS = 1;
/** Longest address of a unix socket, bytes; Linux ends it with a zero. */
const SOCKET_PATH_BYTES_MAX = 107;

const message = z.union([
  z.object({ QMP: z.looseObject({}) }),
  z.object({ return: z.unknown(), id: z.int().optional() }),
  z.object({ error: z.object({ class: z.string(), desc: z.string() }), id: z.int().optional() }),
  z.object({ event: z.string(), data: z.record(z.string(), z.unknown()).optional() }),
]);
/** One message of the peer. */
export type QmpMessage = z.infer<typeof message>;

/** An event of the peer. */
export interface QmpEvent {
  event: string;
  data: Record<string, unknown>;
}

/** Parses one line; throws `vmm_control` when it is not a message. */
export function parseMessage(line: string): QmpMessage {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new VmmError("vmm_control", "the control socket sent a line that is not JSON", { cause });
  }
  const parsed = message.safeParse(value);
  if (!parsed.success) throw new VmmError("vmm_control", "the control socket sent an unknown message", { cause: parsed.error });
  return parsed.data;
}

/** Cuts a byte stream into lines; throws `vmm_control` beyond the limit. */
export class LineSplitter {
  #parts: Buffer[] = [];
  #length = 0;

  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let rest = chunk;
    for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
      this.#take(rest.subarray(0, end));
      const line = Buffer.concat(this.#parts).toString("utf8").trim();
      this.#parts = [];
      this.#length = 0;
      if (line !== "") lines.push(line);
      rest = rest.subarray(end + 1);
    }
    this.#take(rest);
    return lines;
  }

  #take(part: Buffer): void {
    if (part.length === 0) return;
    this.#length += part.length;
    if (this.#length > QMP_LINE_BYTES_MAX) throw new VmmError("vmm_control", "the control socket sent a line that is too long");
    this.#parts.push(part);
  }
}

interface Pending {
  command: string;
  resolve: (value: unknown) => void;
  reject: (error: Error) => void;
}

export interface QmpCallOptions {
  timeoutMs?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** One connection. Its capabilities are negotiated by the constructor, before any command. */
export class QmpSession {
  /** Resolves when the connection is gone, with the reason. Never rejects. */
  readonly closed: Promise<Error>;
  readonly #stream: Duplex;
  readonly #splitter = new LineSplitter();
  readonly #pending = new Map<number, Pending>();
  readonly #onEvent: (event: QmpEvent) => void;
  #settleClosed: (reason: Error) => void = () => {};
  #end: Error | undefined;
  #lastId = 0;

  constructor(stream: Duplex, options: { onEvent?: (event: QmpEvent) => void } = {}) {
    this.#stream = stream;
    this.#onEvent = options.onEvent ?? (() => {});
    this.closed = new Promise((resolve) => {
      this.#settleClosed = resolve;
    });
    stream.on("data", (chunk: Buffer) => this.#receive(chunk));
    stream.on("error", (cause) => this.#fail(new VmmError("vmm_control", "the control socket broke", { cause })));
    stream.on("close", () => this.#fail(new VmmError("vmm_control", "the control socket was closed")));
    stream.on("end", () => stream.destroy());
    this.execute("qmp_capabilities").catch(ignore("every later command fails with the same reason"));
  }

  get isOpen(): boolean {
    return this.#end === undefined;
  }

  /**
   * Sends a command at once and resolves with its `return`. Throws `vmm_control` when QEMU
   * refuses it or the connection breaks, `vmm_timeout` when nothing comes.
   */
  async execute(command: string, args?: Record<string, unknown>, options: QmpCallOptions = {}): Promise<unknown> {
    if (this.#end) throw this.#end;
    const id = (this.#lastId += 1);
    const reply = new Promise<unknown>((resolve, reject) => {
      this.#pending.set(id, { command, resolve, reject });
    });
    this.#stream.write(`${JSON.stringify({ execute: command, ...(args ? { arguments: args } : {}), id })}\n`);
    try {
      return await withDeadline(
        `QEMU's answer to ${command}`,
        { timeoutMs: options.timeoutMs ?? COMMAND_TIMEOUT_MS, signal: options.signal },
        () => reply,
      );
    } catch (error) {
      if (!(error instanceof DeadlineError)) throw error;
      throw new VmmError("vmm_timeout", `QEMU does not answer ${command}`, { cause: error });
    } finally {
      this.#pending.delete(id);
      reply.catch(ignore("the caller stopped waiting"));
    }
  }

  close(): void {
    this.#fail(new VmmError("vmm_control", "the control socket was closed by this program"));
  }

  #receive(chunk: Buffer): void {
    if (this.#end) return;
    try {
      for (const line of this.#splitter.push(chunk)) this.#dispatch(parseMessage(line));
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  #dispatch(received: QmpMessage): void {
    if ("event" in received) return this.#onEvent({ event: received.event, data: received.data ?? {} });
    if ("QMP" in received) return;
    const pending = received.id === undefined ? undefined : this.#pending.get(received.id);
    if (!pending) return;
    if (!("error" in received)) return pending.resolve(received.return);
    const cause = new Error(`${received.error.class}: ${received.error.desc}`);
    pending.reject(new VmmError("vmm_control", `QEMU refused ${pending.command}`, { cause }));
  }

  #fail(reason: Error): void {
    if (this.#end) return;
    this.#end = reason;
    for (const pending of this.#pending.values()) pending.reject(reason);
    this.#pending.clear();
    this.#stream.destroy();
    this.#settleClosed(reason);
  }
}

/**
 * Connects to a unix socket that a VMM makes, as soon as it is there. Only the signal ends the
 * wait. Symbolic links are refused: the directory belongs to the VMM's user.
 */
export async function connectSocket(socketPath: string, signal: AbortSignal): Promise<net.Socket> {
  for (;;) {
    const socket = await tryConnect(socketPath, signal);
    if (socket) return socket;
    await sleep(CONNECT_EVERY_MS, { signal });
  }
}

async function tryConnect(socketPath: string, signal: AbortSignal): Promise<net.Socket | undefined> {
  try {
    if (!(await fs.lstat(socketPath)).isSocket()) throw new VmmError("vmm_control", "what should be a socket of the VM is something else");
    if (Buffer.byteLength(socketPath) <= SOCKET_PATH_BYTES_MAX) return await dial(socketPath, signal);
    await using directory = await fs.open(path.dirname(socketPath), "r");
    return await dial(`/proc/self/fd/${directory.fd}/${path.basename(socketPath)}`, signal);
  } catch (error) {
    signal.throwIfAborted();
    // Not made yet, or bound and not listening yet.
    if (["ENOENT", "ECONNREFUSED"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}

async function dial(address: string, signal: AbortSignal): Promise<net.Socket> {
  const socket = net.connect(address);
  try {
    await once(socket, "connect", { signal });
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}
