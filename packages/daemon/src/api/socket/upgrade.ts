/**
 * WebSocket handshakes. Everything that can be refused is refused before the 101, with a status
 * and a JSON body: the handshake is answered only when the command runs.
 */
import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { ignore, withDeadline } from "@sprited/base";
import { API_LIMITS, type Endpoint, ENDPOINTS, matchRoute, queryFromUrl, validateQuery } from "@sprited/protocol/api";
import { ApiError } from "@sprited/protocol/errors";
import { CloseCode } from "@sprited/protocol/stream";
import { type WebSocket, WebSocketServer } from "ws";
import type { z } from "zod";
import type { ExecSession } from "../../exec/exec.ts";
import { noteRequest, type RequestFacts, requireReady, routeError } from "../app.ts";
import { authorize } from "../auth.ts";
import { toApiError } from "../error-map.ts";
import { commonHeaders, errorReply } from "../error-reply.ts";
import type { ApiContext } from "../handler.ts";
import { offersControl, serveControl } from "./control.ts";
import { cutOffAfter } from "./cut-off.ts";
import { attachExec, type OpenedExec, type SocketQuery, startExec } from "./exec-opening.ts";
import { serveExecSocket } from "./exec-socket.ts";
import { serveFileWatch } from "./fs-watch.ts";
import { PendingSocket } from "./pending-socket.ts";
import { servePortWatch } from "./port-watch-socket.ts";
import { serveProxySocket } from "./proxy-socket.ts";

/** Sockets that need the sprite awake and no session. */
type IntoSprite = "proxySocket" | "watchPortsSocket" | "watchFiles";

function isIntoSprite(name: string): name is IntoSprite {
  return name === "proxySocket" || name === "watchPortsSocket" || name === "watchFiles";
}

export class Upgrades {
  readonly #context: ApiContext;
  readonly #server: WebSocketServer;
  readonly #sockets = new Set<WebSocket>();

  constructor(context: ApiContext) {
    this.#context = context;
    this.#server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: API_LIMITS.messageBytesMax,
      skipUTF8Validation: true,
    });
  }

  /** Answers one upgrade request. Never rejects. */
  async handle(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const context = this.#context;
    const facts: RequestFacts = { requestId: randomUUID() };
    const startedMs = context.clock.monotonicMs();
    const pending = new PendingSocket(socket, head);
    let opened: OpenedExec | undefined;
    let status = 101;
    let error: ApiError | undefined;
    try {
      const url = new URL(request.url ?? "/", "http://localhost");
      const route = matchRoute(request.method ?? "GET", url.pathname, { upgrade: true });
      if (route.kind === "control" && offersControl(context, request)) this.#control(request, pending, route.sprite, facts);
      else if (route.kind === "control") {
        pending.refuse({ status: 404, headers: commonHeaders(facts.requestId), body: "" });
        status = 404;
      } else if (route.kind === "endpoint" && isIntoSprite(route.name)) {
        await this.#intoSprite(request, pending, { name: route.name, endpoint: route.endpoint, params: route.params }, facts);
      } else {
        opened = await this.#open(request, url, facts, pending.gone);
        this.#serve(request, pending, opened, facts);
      }
    } catch (thrown) {
      opened?.attachment.close();
      facts.clientGone = pending.gone.aborted;
      error = toApiError(thrown);
      status = error.status;
      pending.refuse(errorReply(error, facts.requestId));
    }
    noteRequest(context, facts, { method: "UPGRADE", status, durationMs: context.clock.monotonicMs() - startedMs, error });
  }

  /** Tells every client that the server goes; their sessions live on. */
  close(): void {
    for (const socket of this.#sockets) {
      socket.close(CloseCode.restart, "the server is stopping");
      cutOffAfter(this.#context.timings.closeMs, socket, () => socket.terminate());
    }
    this.#server.close();
  }

  /** Opens a control connection to an existing sprite. Throws `ApiError`. */
  #control(request: IncomingMessage, pending: PendingSocket, spriteName: string, facts: RequestFacts): void {
    const context = this.#context;
    requireReady(context);
    facts.endpoint = "control";
    facts.sprite = spriteName;
    const caller = authorize(context.features.organizations, request.headers.authorization, { access: "token" }, { name: spriteName });
    facts.organization = caller.organizationSlug;
    facts.tokenId = caller.tokenId;
    context.features.sprites.get(caller.organizationId, spriteName);
    requireHandshake(request);
    this.#upgrade(request, pending, facts, (socket) => {
      void serveControl({ socket, context, caller, spriteName, logger: context.logger });
    });
  }

  /** Wakes the sprite and opens a TCP connection into it, or a watch of its ports or files. Throws `ApiError`. */
  async #intoSprite(
    request: IncomingMessage,
    pending: PendingSocket,
    route: { name: IntoSprite; endpoint: Endpoint; params: Record<string, string> },
    facts: RequestFacts,
  ): Promise<void> {
    const context = this.#context;
    requireReady(context);
    const spriteName = route.params["name"] ?? "";
    facts.endpoint = route.name;
    facts.sprite = spriteName;
    const caller = authorize(context.features.organizations, request.headers.authorization, route.endpoint, route.params);
    facts.organization = caller.organizationSlug;
    facts.tokenId = caller.tokenId;
    requireHandshake(request);
    const { id: spriteId } = await withDeadline(
      "waking the sprite",
      { timeoutMs: context.timings.execStartMs, signal: pending.gone },
      async (signal) => await context.features.sprites.wake(caller.organizationId, spriteName, { signal }),
    );
    const logger = context.logger;
    this.#upgrade(request, pending, facts, (socket) => {
      if (route.name === "watchPortsSocket") servePortWatch({ socket, context, spriteId, logger });
      else if (route.name === "watchFiles")
        void serveFileWatch({ socket, context, scope: { organizationId: caller.organizationId, spriteName } });
      else
        void serveProxySocket({ socket, context, caller, spriteName, logger }).then((end) =>
          logger.info({ event: "proxy.socket", requestId: facts.requestId, sprite: facts.sprite, ...end }, "proxy socket ended"),
        );
    });
  }

  async #open(request: IncomingMessage, url: URL, facts: RequestFacts, gone: AbortSignal): Promise<OpenedExec> {
    const context = this.#context;
    const route = matchRoute(request.method ?? "GET", url.pathname, { upgrade: true });
    requireReady(context);
    if (route.kind !== "endpoint") {
      if (route.kind === "not_available_yet")
        authorize(context.features.organizations, request.headers.authorization, { access: "token" }, {});
      throw routeError(route as Parameters<typeof routeError>[0]);
    }
    const { params } = route;
    facts.endpoint = route.name;
    facts.sprite = params["name"];
    const caller = authorize(context.features.organizations, request.headers.authorization, route.endpoint, params);
    facts.organization = caller.organizationSlug;
    facts.tokenId = caller.tokenId;
    requireHandshake(request);
    const at = { name: params["name"] ?? "", session_id: params["session_id"] ?? "" };
    const { query, sessionId = at.session_id } = execQueryOf(route.name, url);
    const takeOver = (session: ExecSession): void => context.clients.takeOver(session, query.client);
    if (sessionId) return await attachExec(context, { caller, name: at.name, session_id: sessionId, gone, takeOver }, query);
    return await startExec(context, { caller, spriteName: at.name, gone, takeOver }, query);
  }

  #serve(request: IncomingMessage, pending: PendingSocket, opened: OpenedExec, facts: RequestFacts): void {
    const context = this.#context;
    const startedMs = context.clock.monotonicMs();
    const isOpen = this.#upgrade(request, pending, facts, (socket) => {
      this.#remember(opened, socket);
      const ports = (opened.ports ?? opened.session.tty) ? context.features.ports : undefined;
      void serveExecSocket({ ...opened, ports, socket, timings: context.timings, logger: context.logger }).then((end) => {
        const durationMs = Math.round(context.clock.monotonicMs() - startedMs);
        context.logger.info(
          { event: "exec.socket", requestId: facts.requestId, sprite: facts.sprite, sessionId: opened.session.id, durationMs, ...end },
          "exec socket ended",
        );
      }, ignore("never rejects"));
    });
    // The handshake of a socket that died meanwhile calls nobody back.
    if (!isOpen) opened.attachment.close();
  }

  /** Under the client's name, for the time of its socket. */
  #remember({ session, attachment, client }: OpenedExec, socket: WebSocket): void {
    const forget = this.#context.clients.remember(session, client, () => {
      attachment.close({ lost: true });
      socket.terminate();
    });
    socket.once("close", forget);
  }

  /** Answers the handshake; false when the connection is gone already. */
  #upgrade(request: IncomingMessage, pending: PendingSocket, facts: RequestFacts, onSocket: (socket: WebSocket) => void): boolean {
    const { socket: raw, head } = pending.take();
    const extra = { ...commonHeaders(facts.requestId), "X-Sprite-Capabilities": "signal" };
    const addHeaders = (headers: string[], of: IncomingMessage): void => {
      if (of === request) for (const [name, value] of Object.entries(extra)) headers.push(`${name}: ${value}`);
    };
    this.#server.on("headers", addHeaders);
    try {
      this.#server.handleUpgrade(request, raw, head, (socket) => {
        raw.resume(); // the WebSocket listens now
        this.#sockets.add(socket);
        socket.once("close", () => this.#sockets.delete(socket));
        onSocket(socket);
      });
    } finally {
      this.#server.off("headers", addHeaders);
    }
    return !raw.destroyed;
  }
}

/** Query of an exec socket; `sessionId`: the session that older clients name in it. */
function execQueryOf(name: string, url: URL): { query: SocketQuery; sessionId?: string } {
  if (name === "attachSocket" || name === "startSocket") {
    const schema = ENDPOINTS[name].query;
    return { query: validateQuery(schema as z.ZodType<SocketQuery>, queryFromUrl(schema, url.searchParams)) };
  }
  const schema = ENDPOINTS.execSocket.query;
  const query = validateQuery(schema, queryFromUrl(schema, url.searchParams));
  const sessionId = query.id || query.session_id;
  return { query, ...(sessionId ? { sessionId } : {}) };
}

/** Checks what the WebSocket library would refuse, before a command is started. */
function requireHandshake(request: IncomingMessage): void {
  const key = request.headers["sec-websocket-key"];
  const version = request.headers["sec-websocket-version"];
  if (version !== "13" && version !== "8") throw new ApiError("websocket_invalid", "Sec-WebSocket-Version must be 13");
  if (key === undefined || !/^[+/0-9A-Za-z]{22}==$/.test(key))
    throw new ApiError("websocket_invalid", "Sec-WebSocket-Key is missing or not 16 bytes of base64");
}
