/**
 * A guest that costs next to nothing: it speaks the whole link protocol and knows a handful of
 * commands. Its disk is one number in the disk's file, its page cache another that is written
 * there when the disk is flushed; its memory survives wherever the VMM keeps memory.
 *
 * Commands: `put N` writes and flushes, `touch N` writes only, `get` reads, `count` counts its
 * calls in memory, `lines N` prints N lines over some time, `exit N` ends with that code.
 */
import { createHmac } from "node:crypto";
import fs from "node:fs";
import http2, { constants, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { Duplex } from "node:stream";
import {
  bootRequest,
  type Bootstrap,
  type CommandStart,
  commandStart,
  decodeJson,
  encodeFrame,
  encodeJsonFrame,
  encodeOffsets,
  FrameDecoder,
  FrameType,
  GUEST_GENERATION,
  LINK_WINDOWS,
  sessionResume,
} from "@sprited/protocol/guest";
import type { GuestMemory, GuestSurroundings, RunningGuest } from "@sprited/vmm";
import { BOOT_PORT } from "@sprited/protocol/guest";

const VERSION = "light";
/** Pause between two lines of `lines`, ms. */
const LINE_MS = 2;

/** What is in the guest's memory. */
interface Remembered {
  /** What the page cache holds and the disk may not. */
  cache: number | undefined;
  count: number;
}

interface Session {
  id: string;
  start: CommandStart;
  startedAtMs: number;
  output: Buffer;
  /** Lines still to be printed. */
  linesLeft: number;
  exit: { code: number; signal: null } | undefined;
  reader: { stream: ServerHttp2Stream; sent: number } | undefined;
}

export class LightGuest implements RunningGuest {
  readonly #boot: Duplex;
  readonly #memory: GuestMemory;
  #disk: string;
  #key: Bootstrap | undefined;
  #pending = "";
  #isPaused = false;
  #rests = false;
  readonly #sessions = new Map<string, Session>();
  readonly #links = new Set<ServerHttp2Session>();
  #waiting: (() => void)[] = [];
  readonly #ticking: NodeJS.Timeout;

  readonly #flushed: (file: string) => void;

  /** `flushed` is told of every flush of its disk. */
  constructor(surroundings: GuestSurroundings, flushed: (file: string) => void = () => {}) {
    this.#flushed = flushed;
    const boot = surroundings.ports.get(BOOT_PORT);
    if (!boot) throw new Error("the VM lacks a port");
    this.#boot = boot;
    this.#memory = surroundings.memory;
    this.#disk = diskOf(surroundings);
    boot.on("data", (chunk: Buffer) => this.#hear(chunk));
    this.#say({ type: "idle", generation: GUEST_GENERATION, agent_version: VERSION });
    this.#ticking = setInterval(() => this.#tick(), LINE_MS);
    this.#ticking.unref();
  }

  setPaused(isPaused: boolean): void {
    this.#isPaused = isPaused;
    if (!isPaused) this.#wake();
  }

  resumed(surroundings: GuestSurroundings): void {
    this.#disk = diskOf(surroundings);
    for (const link of this.#links) link.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#ticking);
    for (const link of this.#links) link.destroy();
  }

  /** Serves a connection to the agent's address. */
  serve(socket: Duplex): void {
    socket.on("error", () => {});
    const link = http2.performServerHandshake(socket, {
      settings: { initialWindowSize: LINK_WINDOWS.streamBytes, enablePush: false },
    }) as ServerHttp2Session;
    this.#links.add(link);
    link.on("error", () => {});
    link.once("close", () => {
      this.#links.delete(link);
      socket.destroy();
    });
    link.on("stream", (stream: ServerHttp2Stream, headers) => {
      stream.on("error", () => {});
      this.#route(stream, String(headers[":method"]), String(headers[":path"])).catch(() => stream.destroy());
    });
  }

  #say(message: Record<string, unknown>): void {
    this.#boot.write(`${JSON.stringify(message)}\n`);
  }

  #hear(chunk: Buffer): void {
    this.#pending += chunk.toString("utf8");
    for (let end = this.#pending.indexOf("\n"); end >= 0; end = this.#pending.indexOf("\n")) {
      const request = bootRequest.safeParse(JSON.parse(this.#pending.slice(0, end)));
      this.#pending = this.#pending.slice(end + 1);
      if (!request.success) continue;
      if (request.data.type === "probe") this.#say({ type: "idle", generation: GUEST_GENERATION, agent_version: VERSION });
      if (request.data.type !== "bootstrap") continue;
      this.#key = request.data;
      this.#rests = false;
      this.#wake();
      this.#say({ type: "bootstrapped", incarnation: request.data.incarnation });
    }
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const go of waiting) go();
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  async #route(stream: ServerHttp2Stream, method: string, path: string): Promise<void> {
    const [, id, action] = /^\/sessions\/([0-9]{1,20})(\/attach)?$/.exec(path) ?? [];
    if (id !== undefined && method === "POST") return this.#openStream(stream, id, action !== undefined);
    const body = await bodyOf(stream);
    await this.#until(() => !this.#isPaused);
    if (path === "/hello") return await this.#hello(stream, body as { incarnation: string; nonce: string });
    if (id !== undefined) {
      this.#sessions.delete(id);
      return answer(stream, {});
    }
    if (path === "/sessions") return answer(stream, { sessions: [...this.#sessions.values()].map(sessionFacts) });
    if (path === "/status") {
      const sessions = this.#sessions.size;
      return answer(stream, { inner: "running", inner_error: null, inner_starts: 1, sessions, time_ms: Date.now() });
    }
    if (path === "/rest") {
      this.#rests = true;
      if ((body as { sync: boolean }).sync) this.#flush();
    } else if (path === "/stop" || path === "/sync" || path === "/freeze") this.#flush();
    answer(stream, path === "/thaw" ? { held: true } : {});
  }

  async #hello(stream: ServerHttp2Stream, hello: { incarnation: string; nonce: string }): Promise<void> {
    await this.#until(() => this.#key?.incarnation === hello.incarnation || stream.destroyed);
    const key = this.#key as Bootstrap;
    const { incarnation } = key;
    const proof = createHmac("sha256", Buffer.from(key.key, "base64")).update(`agent:${incarnation}:${hello.nonce}`).digest("hex");
    answer(stream, { generation: GUEST_GENERATION, agent_version: VERSION, incarnation, proof });
  }

  #openStream(stream: ServerHttp2Stream, id: string, isAttach: boolean): void {
    const known = this.#sessions.get(id);
    if (isAttach && !known) return answer(stream, { code: "not_found", message: "no such session" }, 404);
    if (!isAttach && known) return answer(stream, { code: "exists", message: "there is one" }, 409);
    stream.respond({ ":status": 200, "content-type": "application/octet-stream" });
    const decoder = new FrameDecoder();
    stream.on("data", (chunk: Buffer) => {
      for (const { type, payload } of decoder.push(chunk)) {
        if (type === FrameType.start) this.#start(stream, id, commandStart.parse(decodeJson(payload)));
        else if (type === FrameType.resume && known) this.#attach(stream, known, sessionResume.parse(decodeJson(payload)).stdout);
      }
    });
  }

  #start(stream: ServerHttp2Stream, id: string, start: CommandStart): void {
    const session: Session = {
      id,
      start,
      startedAtMs: Date.now(),
      output: Buffer.alloc(0),
      linesLeft: 0,
      exit: undefined,
      reader: undefined,
    };
    this.#sessions.set(id, session);
    this.#attach(stream, session, 0);
    void this.#until(() => !this.#isPaused && !this.#rests).then(() => this.#execute(session));
  }

  #attach(stream: ServerHttp2Stream, session: Session, sent: number): void {
    session.reader?.stream.end();
    session.reader = { stream, sent };
    stream.write(encodeJsonFrame(FrameType.started, { pid: 100, input: 0 }));
    this.#pump(session);
  }

  #execute(session: Session): void {
    const [command = "", argument = ""] = session.start.argv;
    const number = Number(argument);
    const remembered = this.#remembered();
    switch (command) {
      case "put":
        this.#remember({ ...remembered, cache: number });
        this.#flush();
        return this.#print(session, argument, 0);
      case "touch":
        this.#remember({ ...remembered, cache: number });
        return this.#print(session, argument, 0);
      case "get":
        return this.#print(session, String(remembered.cache ?? readDisk(this.#disk)), 0);
      case "count":
        this.#remember({ ...remembered, count: remembered.count + 1 });
        return this.#print(session, String(remembered.count + 1), 0);
      case "lines":
        session.linesLeft = number;
        return;
      default:
        this.#print(session, "", command === "exit" ? number : 127);
    }
  }

  /** Commands that take time go on. */
  #tick(): void {
    if (this.#isPaused || this.#rests) return;
    for (const session of this.#sessions.values()) {
      if (session.linesLeft === 0) continue;
      session.linesLeft -= 1;
      this.#print(session, `line ${session.linesLeft}\n`, session.linesLeft === 0 ? 0 : undefined);
    }
  }

  #print(session: Session, text: string, code: number | undefined): void {
    session.output = Buffer.concat([session.output, Buffer.from(text)]);
    if (code !== undefined) session.exit = { code, signal: null };
    this.#pump(session);
  }

  #pump(session: Session): void {
    const { reader, output, exit } = session;
    if (!reader || reader.stream.destroyed || !reader.stream.writable) return;
    if (reader.sent < output.length) {
      const stdout = Uint8Array.of(1);
      reader.stream.write(encodeFrame(FrameType.output, stdout, encodeOffsets(reader.sent), output.subarray(reader.sent)));
      reader.sent = output.length;
    }
    if (exit) reader.stream.end(encodeJsonFrame(FrameType.exit, exit));
  }

  #remembered(): Remembered {
    const text = this.#memory.read();
    return text === "" ? { cache: undefined, count: 0 } : (JSON.parse(text) as Remembered);
  }

  #remember(remembered: Remembered): void {
    this.#memory.write(JSON.stringify(remembered));
  }

  #flush(): void {
    const { cache, count } = this.#remembered();
    if (cache === undefined) return;
    fs.writeFileSync(this.#disk, String(cache));
    this.#flushed(this.#disk);
    this.#remember({ cache: undefined, count });
  }
}

/** The number on a disk; 0 for one that was never written. */
export function readDisk(file: string): number {
  return Number.parseInt(fs.readFileSync(file, "utf8"), 10) || 0;
}

function diskOf({ disks }: GuestSurroundings): string {
  return disks.find(({ readOnly }) => !readOnly)?.path ?? "/dev/null";
}

function sessionFacts(session: Session) {
  return {
    id: session.id,
    argv: session.start.argv,
    tty: false,
    pid: 100,
    started_at_ms: session.startedAtMs,
    stdout_bytes: session.output.length,
    stderr_bytes: 0,
    kept_from: { stdout: 0, stderr: 0 },
    exit: session.exit ?? null,
  };
}

async function bodyOf(stream: ServerHttp2Stream): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString("utf8");
  return text === "" ? undefined : JSON.parse(text);
}

function answer(stream: ServerHttp2Stream, body: unknown, status = 200): void {
  if (stream.destroyed || stream.headersSent) return;
  stream.respond({ [constants.HTTP2_HEADER_STATUS]: status, "content-type": "application/json" });
  stream.end(JSON.stringify(body));
}
