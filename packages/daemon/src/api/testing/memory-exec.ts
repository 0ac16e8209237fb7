/**
 * Exec in memory, for tests of the API: commands are functions, sessions have the real output
 * log, so back-pressure is real too.
 */
import { sleep } from "@sprited/base";
import { ApiError } from "@sprited/protocol/errors";
import type { SessionExit, TerminalSize } from "@sprited/protocol/guest";
import type {
  AttachFrom,
  Attachment,
  Exec,
  ExecCommand,
  ExecRequest,
  ExecSession,
  KeptLog,
  LogPiece,
  LogQuery,
  SessionEnd,
} from "../../exec/exec.ts";

import { queryLog } from "../../exec/log/index.ts";
import { MemoryLog } from "../../exec/testing/memory-log.ts";
import type { MemorySprites } from "./memory-sprites.ts";

/** What a command function can do. */
export interface Io {
  request: ExecCommand & { runAfterDisconnectMs: number | undefined };
  /** Input until its end. */
  input: AsyncIterable<Uint8Array>;
  /** Waits for clients that are behind. */
  write(stream: "stdout" | "stderr", data: string | Uint8Array): Promise<void>;
  /** Resolves with the first signal. */
  signalled: Promise<string>;
  sizes: TerminalSize[];
}

export type Command = (io: Io) => Promise<SessionExit | { lost: string }>;

const exit = (code: number): SessionExit => ({ code, signal: null });

/** Commands by argv[0]. */
export const COMMANDS: Record<string, Command> = {
  async echo({ request, write }) {
    await write("stdout", `${request.argv.slice(1).join(" ")}\n`);
    return exit(0);
  },
  async both({ write }) {
    await write("stdout", "out\n");
    await write("stderr", "err\n");
    return exit(3);
  },
  async cat({ input, write }) {
    for await (const data of input) await write("stdout", data);
    return exit(0);
  },
  async exit({ request }) {
    return exit(Number(request.argv[1]));
  },
  async sleep({ signalled }) {
    return { code: null, signal: await signalled };
  },
  /** Ends on KILL only. */
  async stubborn({ signalled }) {
    const name = await signalled;
    if (name === "KILL") return { code: null, signal: "KILL" };
    return await new Promise(() => {});
  },
  async flood({ request, write }) {
    const chunk = new Uint8Array(64 * 1024).fill(97);
    for (let left = Number(request.argv[1]); left > 0; left -= chunk.length)
      await write("stdout", chunk.subarray(0, Math.min(left, chunk.length)));
    return exit(0);
  },
  async size({ sizes, signalled, write }) {
    await signalled;
    await write("stdout", JSON.stringify(sizes));
    return exit(0);
  },
  async env({ request, write }) {
    await write(
      "stdout",
      JSON.stringify({
        env: request.env,
        dir: request.dir ?? null,
        tty: request.tty ?? null,
        stdin: request.stdin,
        runOn: request.runAfterDisconnectMs ?? null,
        argv: request.argv,
      }),
    );
    return exit(0);
  },
  async lose() {
    return { lost: "the sprite's VM ended while the command ran" };
  },
};

export class MemoryExec implements Exec {
  readonly #sprites: MemorySprites;
  readonly sessions = new Map<string, MemorySession>();
  #lastId = 1000;
  /** Delay of `start`, ms; it obeys its signal. */
  startDelayMs = 0;
  nextError: Error | undefined;

  constructor(sprites: MemorySprites) {
    this.#sprites = sprites;
  }

  async start(
    organizationId: string,
    spriteName: string,
    request: ExecRequest,
    options: { signal?: AbortSignal } = {},
  ): Promise<ExecSession> {
    await this.#sprites.wake(organizationId, spriteName);
    const error = this.nextError;
    this.nextError = undefined;
    if (error) throw error;
    if (this.startDelayMs > 0) await sleep(this.startDelayMs, { signal: options.signal });
    const session = new MemorySession(request.id ?? String(++this.#lastId), request);
    this.sessions.set(session.id, session);
    return session;
  }

  find(organizationId: string, spriteName: string, sessionId: string): ExecSession | undefined {
    this.#sprites.get(organizationId, spriteName);
    return this.sessions.get(sessionId);
  }

  list(organizationId: string, spriteName: string, options: { ended?: boolean } = {}): ExecSession[] {
    this.#sprites.get(organizationId, spriteName);
    return [...this.sessions.values()].filter((one) => one.owner === "session" && (options.ended || !one.end));
  }

  async forget(_spriteId: string, sessionId: string): Promise<void> {
    this.sessions.delete(sessionId);
  }
}

export class MemorySession implements ExecSession {
  readonly spriteId = "sprite";
  readonly id: string;
  readonly owner: ExecSession["owner"];
  readonly argv: readonly string[];
  readonly workdir: string;
  readonly createdAtMs = Date.now();
  readonly lastOutputAtMs = Date.now();
  readonly inputKnown = Promise.resolve();
  readonly signals: string[] = [];
  readonly sizes: TerminalSize[] = [];
  /** Input bytes the command has not read yet; `write` waits above 256 KiB. */
  inputHeld = 0;
  /** Bytes of each client, and of those without a name. */
  readonly #accepted = new Map<string | undefined, number>();
  /** How clients left: whether they may come back. */
  readonly closes: boolean[] = [];
  clients = 0;
  end: SessionEnd | undefined;
  endedAtMs: number | undefined;
  readonly log = new MemoryLog();
  readonly #command: ExecCommand;
  readonly #ended = Promise.withResolvers<SessionEnd>();
  readonly #signalled = Promise.withResolvers<string>();
  readonly #input: Uint8Array[] = [];
  readonly #takenListeners = new Set<() => void>();
  #inputEnded: boolean;
  #inputChanged: () => void = () => {};
  #inputRoom: (() => void)[] = [];

  constructor(id: string, request: ExecRequest) {
    if (request.work.kind !== "command") throw new Error("only commands run in memory");
    this.id = id;
    this.owner = request.owner ?? "session";
    this.#command = request.work;
    this.argv = request.work.argv;
    this.workdir = request.work.dir ?? "";
    this.#inputEnded = !request.work.stdin;
    void this.#run({ ...request.work, runAfterDisconnectMs: request.runAfterDisconnectMs });
  }

  get command(): string {
    return this.argv.join(" ");
  }

  get tty(): boolean {
    return this.#command.tty !== undefined;
  }

  get size(): TerminalSize | undefined {
    return this.sizes.at(-1) ?? this.#command.tty;
  }

  get outputOffsets(): { stdout: number; stderr: number } {
    return this.log.offsets;
  }

  get kept(): KeptLog {
    const { start, end, startOffsets } = this.log;
    return { start, end, startOffsets };
  }

  /** What is held counts as everybody's. */
  inputOf(client: string | undefined): { accepted: number; taken: number } {
    const accepted = this.#accepted.get(client) ?? 0;
    return { accepted, taken: Math.max(0, accepted - this.inputHeld) };
  }

  get ended(): Promise<SessionEnd> {
    return this.#ended.promise;
  }

  onInputTaken(listener: () => void): () => void {
    this.#takenListeners.add(listener);
    return () => this.#takenListeners.delete(listener);
  }

  attach(options: { from?: AttachFrom | undefined; client?: string | undefined } = {}): Attachment {
    const reader = this.log.read({ from: options.from ?? "start", holdsBack: true });
    this.clients += 1;
    let open = true;
    return {
      position: reader.position,
      output: reader.pieces,
      ended: this.ended,
      write: async (data) => {
        if (this.#inputEnded) throw new ApiError("exec_invalid", "the input is closed");
        this.#input.push(data);
        this.inputHeld += data.length;
        this.#accepted.set(options.client, (this.#accepted.get(options.client) ?? 0) + data.length);
        this.#inputChanged();
        while (this.inputHeld > 256 * 1024 && !this.end) await new Promise<void>((resolve) => this.#inputRoom.push(resolve));
      },
      endInput: () => {
        this.#inputEnded = true;
        this.#inputChanged();
      },
      resize: (size) => {
        if (size.cols !== this.size?.cols || size.rows !== this.size.rows) this.sizes.push(size);
      },
      confirm: () => {},
      close: ({ lost } = {}) => {
        if (!open) return;
        open = false;
        this.clients -= 1;
        this.closes.push(lost ?? false);
        reader.close();
      },
    };
  }

  readLog(query: LogQuery): AsyncIterable<LogPiece> {
    return queryLog(this.log, query);
  }

  /** Draws by sending everything again. */
  async screen(): Promise<{ position: number; data: Uint8Array } | undefined> {
    if (!this.tty) return undefined;
    const bytes: Uint8Array[] = [];
    for await (const piece of this.log.read({ from: "start", holdsBack: false, follow: false }).pieces) {
      if (piece.kind === "output") bytes.push(piece.data);
    }
    return { position: this.log.end, data: Buffer.concat(bytes) };
  }

  signal(name: string): void {
    this.signals.push(name);
    this.#signalled.resolve(name);
    if (name === "KILL") this.#finish({ kind: "exit", exit: { code: null, signal: "KILL" } });
  }

  async #run(request: Io["request"]): Promise<void> {
    const command = COMMANDS[request.argv[0] ?? ""];
    const io: Io = {
      request,
      input: this.#read(),
      signalled: this.#signalled.promise,
      sizes: this.sizes,
      write: async (stream, data) => {
        const bytes = typeof data === "string" ? Buffer.from(data) : data;
        const to = request.tty ? "stdout" : stream;
        this.log.append({ stream: to, offset: this.log.offsets[to], data: bytes });
        if (this.log.isFull) await this.log.room();
      },
    };
    const end = command ? await command(io) : exit(127);
    this.#finish("lost" in end ? { kind: "lost", code: "vm_lost", reason: end.lost } : { kind: "exit", exit: end });
  }

  #finish(end: SessionEnd): void {
    if (this.end) return;
    this.end = end;
    this.endedAtMs = Date.now();
    void this.log.close();
    for (const room of this.#inputRoom) room();
    this.#ended.resolve(end);
  }

  async *#read(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const data = this.#input.shift();
      if (data) {
        this.inputHeld -= data.length;
        for (const listener of this.#takenListeners) listener();
        for (const room of this.#inputRoom.splice(0)) room();
        yield data;
      } else if (this.#inputEnded) return;
      else await new Promise<void>((resolve) => (this.#inputChanged = resolve));
    }
  }
}
