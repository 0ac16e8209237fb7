/**
 * An agent that breaks the protocol where its script says so and keeps it everywhere else: what a
 * user who took over their VM could put in the agent's place.
 */
import { createHmac } from "node:crypto";
import http2, { type ServerHttp2Stream } from "node:http2";
import net from "node:net";
import type { Duplex } from "node:stream";
import { bootRequest, type Bootstrap, GUEST_GENERATION } from "@sprited/protocol/guest";
import type { GuestPorts } from "./simulated.ts";

export interface HostileScript {
  /** Answers a bootstrap instead of confirming it. */
  onBootstrap?(port: Duplex, bootstrap: Bootstrap): void;
  /** Takes a link's connection instead of speaking HTTP/2 on it. */
  onConnection?(socket: net.Socket): void;
  /** Answers hello; `honest` is what an agent would say. */
  onHello?(stream: ServerHttp2Stream, honest: Record<string, unknown>): void;
  /** Answers any other request. */
  onRequest?(stream: ServerHttp2Stream, path: string): void;
}

/** Starts it and announces `idle`. */
export async function startHostileAgent(
  ports: GuestPorts,
  script: () => HostileScript,
  route: (address: { host: string; port: number }) => void,
): Promise<AsyncDisposable> {
  let bootstrap: Bootstrap | undefined;
  const say = (message: Record<string, unknown>): void => void ports.boot.write(`${JSON.stringify(message)}\n`);
  const idle = { type: "idle", generation: GUEST_GENERATION, agent_version: "hostile" };
  say(idle);
  let pending = "";
  ports.boot.on("data", (chunk: Buffer) => {
    pending += chunk.toString("utf8");
    for (let end = pending.indexOf("\n"); end >= 0; end = pending.indexOf("\n")) {
      const request = bootRequest.safeParse(JSON.parse(pending.slice(0, end)));
      pending = pending.slice(end + 1);
      if (!request.success) continue;
      if (request.data.type === "probe") say(idle);
      if (request.data.type !== "bootstrap") continue;
      bootstrap = request.data;
      const { onBootstrap } = script();
      if (onBootstrap) onBootstrap(ports.boot, bootstrap);
      else say({ type: "bootstrapped", incarnation: bootstrap.incarnation });
    }
  });
  const sockets = new Set<net.Socket>();
  const h2 = http2.createServer();
  h2.on("sessionError", () => {});
  h2.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    const path = String(headers[":path"]);
    const { onRequest } = script();
    if (path === "/hello") void answerHello(stream, () => bootstrap, script());
    else if (onRequest) onRequest(stream, path);
    else answerHonestly(stream, path);
  });
  const listener = net.createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    const { onConnection } = script();
    if (onConnection) onConnection(socket);
    else h2.emit("connection", socket);
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  route({ host: "127.0.0.1", port: (listener.address() as net.AddressInfo).port });
  return {
    [Symbol.asyncDispose]: async () => {
      listener.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

async function answerHello(stream: ServerHttp2Stream, bootstrap: () => Bootstrap | undefined, script: HostileScript): Promise<void> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of stream) chunks.push(chunk as Buffer);
  } catch {
    return; // the daemon left
  }
  const known = bootstrap();
  if (!known) return stream.close();
  const { nonce } = JSON.parse(Buffer.concat(chunks).toString("utf8")) as { nonce: string };
  const proof = createHmac("sha256", Buffer.from(known.key, "base64")).update(`agent:${known.incarnation}:${nonce}`).digest("hex");
  const honest = { generation: GUEST_GENERATION, agent_version: "hostile", incarnation: known.incarnation, proof };
  if (script.onHello) script.onHello(stream, honest);
  else answerJson(stream, honest);
}

export function answerJson(stream: ServerHttp2Stream, body: unknown, status = 200): void {
  if (stream.destroyed) return;
  stream.respond({ ":status": status, "content-type": "application/json" });
  stream.end(typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify(body));
}

function answerHonestly(stream: ServerHttp2Stream, path: string): void {
  if (path === "/status") answerJson(stream, { inner: "running", inner_error: null, inner_starts: 1, sessions: 0, time_ms: Date.now() });
  else if (path === "/sessions") answerJson(stream, { sessions: [] });
  else if (path.startsWith("/sessions/")) answerJson(stream, { code: "not_found", message: "no such session" }, 404);
  else answerJson(stream, {});
}
