/**
 * QMP: QEMU's control socket, JSON objects a line each. One command at a time; events are
 * handed out as they come. Everything read is validated and bounded: a VMM that is taken over
 * must not take the daemon with it.
 */
import net from "node:net";
import { DeadlineError, ignore, sleep, withDeadline } from "@sprited/base";
import { z } from "zod";
import { VmmError } from "../errors.ts";

/** Longest line taken, bytes. */
export const QMP_LINE_BYTES_MAX = 1024 * 1024;
/** Pause between two tries to connect, ms. */
const CONNECT_EVERY_MS = 3;

const message = z.union([
  z.object({ QMP: z.unknown() }).transform(() => ({ kind: "greeting" as const })),
  z.object({ event: z.string(), data: z.unknown().optional() }).transform((event) => ({ kind: "event" as const, name: event.event, data: event.data })),
  z.object({ return: z.unknown() }).transform((reply) => ({ kind: "return" as const, value: reply.return })),
  z
    .object({ error: z.object({ class: z.string(), desc: z.string() }) })
    .transform((reply) => ({ kind: "error" as const, description: reply.error.desc.slice(0, 1000) })),
]);
export type QmpMessage = z.infer<typeof message>;

/** Cuts a byte stream into messages, whatever the chunks. Throws `VmmError` `vmm_control` on garbage. */
export class QmpDecoder {
  #pending = "";

  *push(chunk: string): Generator<QmpMessage> {
    this.#pending += chunk;
    for (let end = this.#pending.indexOf("\n"); end >= 0; end = this.#pending.indexOf("\n")) {
      const line = this.#pending.slice(0, end).trim();
      this.#pending = this.#pending.slice(end + 1);
      if (line !== "") yield decodeLine(line);
    }
    if (this.#pending.length > QMP_LINE_BYTES_MAX) throw new VmmError("vmm_control", "the VMM's control socket sent an endless line");
  }
}

function decodeLine(line: string): QmpMessage {
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch (cause) {
    throw new VmmError("vmm_control", "the VMM's control socket sent something that is not JSON", { cause });
  }
  const parsed = message.safeParse(json);
  if (!parsed.success) throw new VmmError("vmm_control", "the VMM's control socket sent an unknown message", { cause: parsed.error });
  return parsed.data;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class QmpClient implements AsyncDisposable {
  /** Resolves when the socket is closed, whoever closed it. */
  readonly closed: Promise<void>;
  readonly #socket: net.Socket;
  readonly #listeners = new Set<(name: string, data: unknown) => void>();
  #waiting: Waiting[] = [];
  #error: Error | undefined;

  private constructor(socket: net.Socket) {
    this.#socket = socket;
    const decoder = new QmpDecoder();
    socket.setEncoding("utf8");
    socket.on("data", (chunk: unknown) => {
      try {
        for (const received of decoder.push(String(chunk))) this.#take(received);
      } catch (error) {
        this.#fail(error as Error);
      }
    });
    socket.on("error", (cause) => this.#fail(new VmmError("vmm_control", "the VMM's control socket broke", { cause })));
    this.closed = new Promise((resolve) => {
      socket.once("close", () => {
        this.#fail(new VmmError("vmm_control", "the VMM closed its control socket"));
        resolve();
      });
    });
  }

  /** Connects, retrying while the socket is not there yet, and leaves negotiation mode. */
  static async open(path: string, options: { timeoutMs: number; signal?: AbortSignal | undefined; stillStarting(): boolean }): Promise<QmpClient> {
    const socket = await withDeadline("the VMM's control socket", options, async (signal) => {
      for (;;) {
        const connected = await connect(path);
        if (connected) return connected;
        if (!options.stillStarting()) throw new VmmError("vmm_exited_early", "the VMM ended before it listened on its control socket");
        await sleep(CONNECT_EVERY_MS, { signal });
      }
    });
    const client = new QmpClient(socket);
    try {
      await client.execute("qmp_capabilities", undefined, options);
    } catch (error) {
      socket.destroy();
      throw error;
    }
    return client;
  }

  /** Runs one command. Throws `VmmError` `vmm_control` or `vmm_timeout`. */
  async execute(command: string, args: Record<string, unknown> | undefined, options: { timeoutMs: number; signal?: AbortSignal | undefined }): Promise<unknown> {
    if (this.#error) throw this.#error;
    const reply = new Promise<unknown>((resolve, reject) => this.#waiting.push({ resolve, reject }));
    reply.catch(ignore("the waiter may have given up"));
    this.#socket.write(`${JSON.stringify(args ? { execute: command, arguments: args } : { execute: command })}\n`);
    try {
      return await withDeadline(`the VMM's answer to ${command}`, options, () => reply);
    } catch (error) {
      if (!(error instanceof DeadlineError)) throw error;
      throw new VmmError("vmm_timeout", `the VMM did not answer ${command} within ${error.timeoutMs} ms`, { cause: error });
    }
  }

  /** Registers for events; returns how to stop. */
  onEvent(listener: (name: string, data: unknown) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
    await this.closed;
  }

  #take(received: QmpMessage): void {
    if (received.kind === "event") for (const listener of this.#listeners) listener(received.name, received.data);
    else if (received.kind === "return") this.#waiting.shift()?.resolve(received.value);
    else if (received.kind === "error") this.#waiting.shift()?.reject(new VmmError("vmm_control", `the VMM refused: ${received.description}`));
  }

  #fail(error: Error): void {
    this.#error ??= error;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const one of waiting) one.reject(this.#error);
    this.#socket.destroy();
  }
}

/** One try; undefined when nobody listens yet. */
function connect(path: string): Promise<net.Socket | undefined> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(path);
    socket.once("connect", () => {
      socket.removeAllListeners("error");
      resolve(socket);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ECONNREFUSED") resolve(undefined);
      else reject(new VmmError("vmm_control", "the VMM's control socket cannot be opened", { cause: error }));
    });
  });
}
