/**
 * A small Sprites API for tests of the command line: real HTTP and WebSockets, sprites in memory,
 * commands run as processes of this machine, terminal sessions played by a script.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { closeCodeAfterExit, decodeClientMessage, encodeExit, encodeFrame, exitByte, StreamId } from "@sprited/protocol/stream";
import { type WebSocket, WebSocketServer } from "ws";

export const TOKEN = "default/org-1/tok-1/s3cret-value";

/** One terminal session: what a scripted program sees and does. */
export interface TerminalSession {
  id: string;
  argv: string[];
  env: string[];
  size: { cols: number; rows: number };
  input: Buffer;
  resizes: { cols: number; rows: number }[];
  send(text: string): void;
  exit(code: number): void;
  /** Cuts the connection without a word. */
  cut(): void;
}

interface SpriteRow {
  name: string;
  status: string;
  labels: string[];
  url_auth: string;
  body: Record<string, unknown>;
}

export class CliApi {
  readonly sprites = new Map<string, SpriteRow>();
  readonly requests: { method: string; url: string; headers: IncomingMessage["headers"] }[] = [];
  readonly terminals: TerminalSession[] = [];
  /** Signals that commands got. */
  readonly signals: string[] = [];
  /** Statuses to refuse the next exec upgrades with. */
  refusals: { status: number; body: string }[] = [];
  /** Plays the program of terminal sessions. */
  program: (session: TerminalSession) => void = (session) => session.send("$ ");
  /** Called with each piece of typed input. */
  onInput: (session: TerminalSession, data: Buffer) => void = () => {};
  /** Commands that are cut off after their first output. */
  cutAfterOutput = false;
  url = "";
  readonly #server: Server;
  readonly #sockets = new WebSocketServer({ noServer: true, maxPayload: 64 * 1024 * 1024 });
  readonly #watchers = new Set<ServerResponse>();
  readonly #children = new Set<ChildProcess>();
  #nextSession = 1;

  constructor() {
    this.#server = createServer({ maxHeaderSize: 256 * 1024 }, (request, response) => void this.#answer(request, response));
    this.#server.on("upgrade", (request, socket, head) => {
      if (request.url?.endsWith("/ports/watch")) {
        // Servers without this call exist: nothing is forwarded then.
        socket.on("error", () => {}); // the CLI leaves when its command has ended
        socket.end("HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
      }
      this.requests.push({ method: "UPGRADE", url: request.url ?? "", headers: request.headers });
      const refusal = this.#refusal(request);
      if (refusal) {
        socket.end(
          `HTTP/1.1 ${refusal.status} No\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(refusal.body)}\r\nConnection: close\r\n\r\n${refusal.body}`,
        );
        return;
      }
      this.#sockets.handleUpgrade(request, socket, head, (client) => this.#exec(client, new URL(request.url ?? "", this.url)));
    });
  }

  static async start(): Promise<CliApi> {
    const api = new CliApi();
    api.#server.listen(0, "127.0.0.1");
    await once(api.#server, "listening");
    api.url = `http://127.0.0.1:${(api.#server.address() as AddressInfo).port}`;
    return api;
  }

  add(name: string, row: Partial<SpriteRow> = {}): void {
    this.sprites.set(name, { name, status: "cold", labels: [], url_auth: "sprite", body: {}, ...row });
  }

  /** Sends a line to every watcher of the list. */
  announce(line: Record<string, unknown>): void {
    for (const watcher of this.#watchers) watcher.write(`${JSON.stringify(line)}\n`);
  }

  get watchers(): number {
    return this.#watchers.size;
  }

  /** Ends every connection at once, as a killed server does. */
  async kill(): Promise<void> {
    for (const client of this.#sockets.clients) client.terminate();
    this.#server.closeAllConnections();
    for (const child of this.#children) child.kill("SIGKILL");
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }

  #refusal(request: IncomingMessage): { status: number; body: string } | undefined {
    if (request.headers.authorization !== `Bearer ${TOKEN}`)
      return { status: 401, body: '{"error":"unauthorized","message":"the token is not valid"}' };
    const name = decodeURIComponent(/^\/v1\/sprites\/([^/?]+)/.exec(request.url ?? "")?.[1] ?? "");
    if (!this.sprites.has(name)) return { status: 404, body: '{"error":"sprite_not_found","message":"there is no sprite of this name"}' };
    return this.refusals.shift();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests.push({ method: request.method ?? "", url: request.url ?? "", headers: request.headers });
    const url = new URL(request.url ?? "", this.url);
    const json = (status: number, body: unknown): void =>
      void response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    if (request.headers.authorization !== `Bearer ${TOKEN}`) return json(401, { error: "unauthorized", message: "the token is not valid" });
    if (url.pathname === "/v1/organization") return json(200, { organization: { slug: "default", sprites_enabled: true } });
    if (url.pathname === "/v1/sprites")
      return request.method === "POST" ? this.#create(await bodyOf(request), json) : this.#list(request, url, response, json);
    const [, name = "", rest = ""] = /^\/v1\/sprites\/([^/]+)(.*)$/.exec(url.pathname) ?? [];
    const sprite = this.sprites.get(decodeURIComponent(name));
    if (!sprite) return json(404, { error: "sprite_not_found", message: "there is no sprite of this name" });
    if (rest === "/exec" && request.method === "POST") return this.#execPost(request, response, url);
    if (rest === "/exec")
      return json(200, { sessions: this.terminals.map((session) => ({ id: session.id, command: session.argv.join(" "), tty: true })) });
    if (request.method === "DELETE") {
      this.sprites.delete(sprite.name);
      return void response.writeHead(204).end();
    }
    if (request.method === "PUT") {
      const change = JSON.parse(await bodyOf(request)) as { url_settings?: { auth?: string } };
      sprite.url_auth = change.url_settings?.auth ?? sprite.url_auth;
    }
    json(200, this.#object(sprite));
  }

  #create(body: string, json: (status: number, body: unknown) => void): void {
    const wish = JSON.parse(body) as { name: string; labels?: string[] };
    if (this.sprites.has(wish.name)) return json(409, { error: "sprite_name_taken", message: `the name ${wish.name} is taken` });
    this.add(wish.name, { labels: wish.labels ?? [], body: wish });
    json(201, this.#object(this.sprites.get(wish.name) as SpriteRow));
  }

  #list(request: IncomingMessage, url: URL, response: ServerResponse, json: (status: number, body: unknown) => void): void {
    const rows = [...this.sprites.values()].filter((row) => row.name.startsWith(url.searchParams.get("prefix") ?? ""));
    if (request.headers.accept === "application/x-ndjson") {
      response.writeHead(200, { "content-type": "application/x-ndjson" });
      for (const row of rows) response.write(`${JSON.stringify({ type: "sprite", name: row.name, status: row.status })}\n`);
      this.#watchers.add(response);
      response.on("close", () => this.#watchers.delete(response));
      return;
    }
    // Pages of two, so that the client has to turn them.
    const from = Number(url.searchParams.get("continuation_token") ?? 0);
    const more = rows.length > from + 2;
    json(200, {
      sprites: rows.slice(from, from + 2).map((row) => this.#object(row)),
      has_more: more,
      next_continuation_token: more ? String(from + 2) : null,
    });
  }

  #object(row: SpriteRow): Record<string, unknown> {
    const { name, status, labels, url_auth } = row;
    return {
      id: `id-${name}`,
      name,
      organization: "default",
      status,
      labels,
      url: `http://${name}.sprites.test`,
      url_settings: { auth: url_auth },
      created_at: "2026-01-01T00:00:00Z",
      updated_at: "2026-01-01T00:00:00Z",
    };
  }

  #exec(client: WebSocket, url: URL): void {
    const attach = /\/exec\/([^/]+)$/.exec(url.pathname)?.[1];
    if (attach !== undefined || url.searchParams.get("tty") === "true") this.#terminal(client, url, attach);
    else this.#command(client, url);
  }

  #command(client: WebSocket, url: URL): void {
    const id = String(this.#nextSession++);
    const argv = url.searchParams.getAll("cmd");
    client.send(sessionInfo(id, argv, false));
    const child = this.#spawn(url);
    const output = (stream: StreamId) => (data: Buffer) => {
      client.send(encodeFrame(stream, data));
      if (this.cutAfterOutput) client.terminate();
      const source = stream === StreamId.stdout ? child.stdout : child.stderr;
      if (client.bufferedAmount > 1024 * 1024) {
        source?.pause();
        const timer = setInterval(() => {
          if (client.bufferedAmount > 64 * 1024 && client.readyState === 1) return;
          clearInterval(timer);
          source?.resume();
        }, 5);
      }
    };
    child.stdout?.on("data", output(StreamId.stdout));
    child.stderr?.on("data", output(StreamId.stderr));
    child.on("error", () => {
      client.send(encodeFrame(StreamId.stderr, Buffer.from(`${argv[0]}: not found\n`)));
      client.send(encodeExit(127));
      client.close(1000);
    });
    child.on("close", (code, signal) => {
      if (child.pid === undefined) return;
      client.send(encodeExit(exitByte({ code, signal: signal?.slice(3) ?? null })));
      client.close(1000);
    });
    client.on("message", (data: Buffer, isBinary) => {
      const message = decodeClientMessage(isBinary ? data : data.toString("utf8"), { tty: false });
      if (message.kind === "input") child.stdin?.write(message.data);
      else if (message.kind === "input_end") child.stdin?.end();
      else if (message.kind === "signal") {
        this.signals.push(message.signal);
        child.kill(`SIG${message.signal}` as NodeJS.Signals);
      }
    });
    client.on("close", () => child.kill("SIGKILL"));
  }

  #spawn(url: URL): ChildProcess {
    const [program = "", ...args] = url.searchParams.getAll("cmd");
    const env = Object.fromEntries(
      url.searchParams.getAll("env").map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]),
    );
    const child = spawn(program, args, { cwd: url.searchParams.get("dir") ?? "/", env: { PATH: "/usr/bin:/bin", ...env }, stdio: "pipe" });
    child.stdin.on("error", () => {}); // the command ended without reading its input
    if (url.searchParams.get("stdin") !== "true") child.stdin.end();
    this.#children.add(child);
    child.on("close", () => this.#children.delete(child));
    return child;
  }

  #terminal(client: WebSocket, url: URL, attach: string | undefined): void {
    const number = (name: string, otherwise: number): number => Number(url.searchParams.get(name) ?? otherwise);
    const before = this.terminals.find((session) => session.id === attach);
    const session: TerminalSession = {
      id: before?.id ?? String(this.#nextSession++),
      argv: before?.argv ?? url.searchParams.getAll("cmd"),
      env: url.searchParams.getAll("env"),
      size: { cols: number("cols", 80), rows: number("rows", 24) },
      input: Buffer.alloc(0),
      resizes: [],
      send: (text) => client.send(Buffer.from(text, "latin1")),
      exit: (code) => {
        client.send(JSON.stringify({ type: "exit", exit_code: code, code }));
        client.close(closeCodeAfterExit(code, { tty: true }));
      },
      cut: () => client.terminate(),
    };
    if (before) this.terminals.splice(this.terminals.indexOf(before), 1);
    this.terminals.push(session);
    client.send(sessionInfo(session.id, session.argv, true));
    client.on("message", (data: Buffer, isBinary) => {
      const message = decodeClientMessage(isBinary ? data : data.toString("utf8"), { tty: true });
      if (message.kind === "resize") session.resizes.push({ cols: message.cols, rows: message.rows });
      if (message.kind !== "input") return;
      session.input = Buffer.concat([session.input, message.data]);
      this.onInput(session, data);
    });
    this.program(session);
  }

  /** Frames are chunks, sent without any pause between them. */
  #execPost(request: IncomingMessage, response: ServerResponse, url: URL): void {
    const child = this.#spawn(url);
    response.writeHead(200, { "content-type": "application/octet-stream" });
    request.pipe(child.stdin as NonNullable<typeof child.stdin>);
    child.stdout?.on("data", (data: Buffer) => response.write(encodeFrame(StreamId.stdout, data)));
    child.stderr?.on("data", (data: Buffer) => response.write(encodeFrame(StreamId.stderr, data)));
    child.on("close", (code, signal) => response.end(encodeExit(exitByte({ code, signal: signal?.slice(3) ?? null }))));
  }
}

function sessionInfo(id: string, argv: readonly string[], tty: boolean): string {
  return JSON.stringify({
    type: "session_info",
    session_id: id,
    command: argv.join(" "),
    created: 1_780_000_000,
    cols: 80,
    rows: 24,
    is_owner: true,
    tty,
  });
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString("utf8");
}
