/**
 * The HTTP server: our own `http.Server` with the app on it, WebSocket upgrades beside it.
 *
 * Invariants: every answer carries `Sprite-Version`, also those to requests that could not be
 * parsed; streams have no time limit; closing drains requests in flight within a deadline.
 */
import { randomUUID } from "node:crypto";
import http, { type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { getRequestListener } from "@hono/node-server";
import { type Clock, ignore, type Logger, systemClock, waitFor } from "@sprited/base";
import { API_LIMITS } from "@sprited/protocol/api";
import { ApiError } from "@sprited/protocol/errors";
import { createApp } from "./app.ts";
import { commonHeaders, errorReply, SPRITE_VERSION } from "./error-reply.ts";
import type { ApiContext, ApiFeatures, ApiTimings } from "./handler.ts";
import { NamedClients } from "./named-clients.ts";
import { rawReply } from "./socket/pending-socket.ts";
import { Upgrades } from "./socket/upgrade.ts";

/** How long an idle connection is kept, ms; longer than clients keep theirs. */
const KEEP_ALIVE_MS = 75_000;
/** A request's head must be there within this, ms. */
const HEAD_TIMEOUT_MS = 60_000;
/** Probes on quiet connections find clients that vanished, ms. */
const TCP_PROBE_MS = 30_000;

const TIMINGS: ApiTimings = { keepAliveMs: 15_000, execStartMs: 300_000, closeMs: 5_000 };

export interface ApiServerOptions {
  /** Port 0 takes a free one. */
  listen: { host: string; port: number };
  features: ApiFeatures;
  logger: Logger;
  version: string;
  /** Domain below which sprite URLs are formed. */
  spriteDomain: string;
  /** Largest JSON body, bytes. */
  bodyBytesMax?: number;
  /** Offers control connections (docs/adr/0013-control-off-by-default.md). Default: no. */
  control?: boolean;
  clock?: Clock;
  timings?: Partial<ApiTimings>;
  /** `starting`: everything but `/healthz` and `/openapi.json` is answered 503 until `markReady`. */
  state?: "starting" | "ready";
}

export interface ApiServer {
  readonly address: { host: string; port: number };
  /** For example `http://127.0.0.1:7780`. */
  readonly url: string;
  markReady(): void;
  /** Stops listening, lets requests in flight end within `drainMs`, then cuts what is left. Idempotent. */
  close(options?: { drainMs?: number }): Promise<void>;
}

/** Why the server cannot listen. */
export class ListenError extends Error {
  override readonly name = "ListenError";
  readonly code: "port_busy" | "port_forbidden" | "address_unavailable";
  constructor(code: ListenError["code"], message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** Starts listening. Throws `ListenError`. */
export async function startApiServer(options: ApiServerOptions): Promise<ApiServer> {
  let state = options.state ?? "ready";
  const shutdown = new AbortController();
  let url = "";
  let port = options.listen.port;
  const context: ApiContext = {
    features: options.features,
    logger: options.logger,
    clock: options.clock ?? systemClock,
    version: options.version,
    timings: { ...TIMINGS, ...options.timings },
    control: options.control ?? false,
    clients: new NamedClients(),
    bodyBytesMax: options.bodyBytesMax ?? API_LIMITS.bodyBytesMax,
    state: () => (shutdown.signal.aborted ? "stopping" : state),
    shutdown: shutdown.signal,
    baseUrl: () => url,
    spriteUrl: (name, organizationSlug) => `http://${name}-${organizationSlug}.${options.spriteDomain}:${port}`,
  };
  const upgrades = new Upgrades(context);
  const server = createServer(context, upgrades);
  await listen(server, options.listen);
  const address = server.address() as AddressInfo;
  port = address.port;
  url = `http://${address.family === "IPv6" ? `[${address.address}]` : address.address}:${address.port}`;
  return {
    address: { host: address.address, port: address.port },
    url,
    markReady() {
      state = "ready";
    },
    async close({ drainMs = 10_000 } = {}) {
      if (shutdown.signal.aborted) return;
      shutdown.abort();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      upgrades.close();
      await waitFor("requests in flight", { timeoutMs: drainMs, everyMs: 20 }, async () => {
        server.closeIdleConnections();
        return (await connections(server)) === 0;
      }).catch(ignore("what is left is cut off"));
      server.closeAllConnections();
      await closed;
    },
  };
}

function createServer(context: ApiContext, upgrades: Upgrades): http.Server {
  const app = createApp(context);
  const listener = getRequestListener(app.fetch, {
    overrideGlobalObjects: false,
    hostname: "localhost",
    errorHandler: () => badRequest(),
  });
  const server = http.createServer({
    maxHeaderSize: API_LIMITS.headBytesMax,
    requestTimeout: 0,
    headersTimeout: HEAD_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    keepAlive: true,
    keepAliveInitialDelay: TCP_PROBE_MS,
    noDelay: true,
    shouldUpgradeCallback: (request) => request.headers.upgrade?.toLowerCase() === "websocket",
  });
  server.on("request", (request, response) => {
    response.setHeader("Sprite-Version", SPRITE_VERSION);
    void listener(request, response);
  });
  server.on("upgrade", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    void upgrades.handle(request, socket, head);
  });
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Duplex) => answerUnparsable(error, socket));
  return server;
}

/** A request line that is no URL. */
function badRequest(): Response {
  const requestId = randomUUID();
  const { status, headers, body } = errorReply(new ApiError("query_invalid", "the request's URL or Host header is not valid"), requestId);
  return new Response(body, { status, headers });
}

/** A request that the HTTP parser refused: too large, or not HTTP. */
function answerUnparsable(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable || error.code === "ECONNRESET") {
    socket.destroy();
    return;
  }
  const requestId = randomUUID();
  const tooLarge = error.code === "HPE_HEADER_OVERFLOW";
  const reply = tooLarge
    ? errorReply(
        new ApiError("header_too_large", `the request's head is larger than ${API_LIMITS.headBytesMax} bytes`, {
          details: { limit: API_LIMITS.headBytesMax },
        }),
        requestId,
      )
    : { status: 400, headers: commonHeaders(requestId), body: "" };
  socket.end(rawReply(reply));
}

async function listen(server: http.Server, at: { host: string; port: number }): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const onError = (cause: NodeJS.ErrnoException): void => reject(listenError(cause, at));
    server.once("error", onError);
    server.listen(at.port, at.host, () => {
      server.off("error", onError);
      resolve();
    });
  });
}

function listenError(cause: NodeJS.ErrnoException, at: { host: string; port: number }): Error {
  const where = `${at.host}:${at.port}`;
  switch (cause.code) {
    case "EADDRINUSE":
      return new ListenError("port_busy", `${where} is in use by another program; stop it or choose another address with SPRITED_LISTEN`, {
        cause,
      });
    case "EACCES":
      return new ListenError("port_forbidden", `this user may not listen on ${where}; choose a port above 1023 with SPRITED_LISTEN`, {
        cause,
      });
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return new ListenError("address_unavailable", `${at.host} is not an address of this host; choose another with SPRITED_LISTEN`, {
        cause,
      });
    default:
      return cause;
  }
}

function connections(server: http.Server): Promise<number> {
  return new Promise((resolve) => server.getConnections((error, count) => resolve(error ? 0 : count)));
}
