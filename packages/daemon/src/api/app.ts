/**
 * Requests that are not upgrades: match, authorize, parse, call the handler, answer. One log line
 * for each, without query (commands and their environment travel there) and without tokens.
 */
import { randomUUID } from "node:crypto";
import {
  type Endpoint,
  type EndpointName,
  ENDPOINTS,
  matchRoute,
  queryFromUrl,
  type Route,
  validateBody,
  validateQuery,
} from "@sprited/protocol/api";
import { ApiError } from "@sprited/protocol/errors";
import { Hono } from "hono";
import type { Caller } from "../organization/index.ts";
import { authorize } from "./auth.ts";
import { readJsonBody } from "./body.ts";
import { toApiError } from "./error-map.ts";
import { commonHeaders, errorReply } from "./error-reply.ts";
import type { ApiContext, Call } from "./handler.ts";
import { HANDLERS } from "./handlers/index.ts";

/** Facts of a request for its log line, filled in as they become known. */
export interface RequestFacts {
  requestId: string;
  endpoint?: EndpointName | "control";
  sprite?: string | undefined;
  organization?: string;
  tokenId?: string;
  /** The client left before it was answered: whatever failed then is no fault. */
  clientGone?: boolean;
}

/** A handler with the types of its endpoint forgotten: the table has checked them. */
type AnyHandler = (call: Omit<Call<Endpoint>, "params" | "query" | "body" | "caller"> & Record<string, unknown>) => unknown;

export function createApp(context: ApiContext): Hono {
  const app = new Hono();
  app.all("*", async ({ req }) => {
    const facts: RequestFacts = { requestId: randomUUID() };
    const startedMs = context.clock.monotonicMs();
    const { response, error } = await answer(context, req.raw, facts);
    noteRequest(context, facts, {
      method: req.method,
      status: response.status,
      durationMs: context.clock.monotonicMs() - startedMs,
      error,
    });
    return response;
  });
  return app;
}

async function answer(context: ApiContext, request: Request, facts: RequestFacts): Promise<{ response: Response; error?: ApiError }> {
  let route: Route | undefined;
  try {
    const url = new URL(request.url);
    route = matchRoute(request.method, url.pathname, { upgrade: false });
    if (route.kind === "control") return { response: new Response(null, { status: 404, headers: commonHeaders(facts.requestId) }) };
    if (route.kind !== "endpoint") throw noEndpoint(context, request, route);
    return { response: await callHandler(context, request, { route, url, facts }) };
  } catch (thrown) {
    facts.clientGone = request.signal.aborted;
    const error = toApiError(thrown);
    const { status, headers, body } = errorReply(error, facts.requestId, {
      allow: route?.kind === "method_not_allowed" ? route.allow : undefined,
    });
    return { response: new Response(request.method === "HEAD" ? null : body, { status, headers }), error };
  }
}

async function callHandler(
  context: ApiContext,
  request: Request,
  asked: { route: Extract<Route, { kind: "endpoint" }>; url: URL; facts: RequestFacts },
): Promise<Response> {
  const { route, url, facts } = asked;
  const { endpoint, params } = route;
  facts.endpoint = route.name;
  facts.sprite = params["name"];
  let caller: Caller | undefined;
  if (endpoint.access !== "anyone") {
    requireReady(context);
    caller = authorize(context.features.organizations, request.headers.get("authorization") ?? undefined, endpoint, params);
    facts.organization = caller.organizationSlug;
    facts.tokenId = caller.tokenId;
  }
  const query = endpoint.query ? validateQuery(endpoint.query, queryFromUrl(endpoint.query, url.searchParams)) : {};
  const body = endpoint.body ? await bodyOf(context, request, endpoint.body) : undefined;
  const handler = HANDLERS[route.name as keyof typeof HANDLERS] as unknown as AnyHandler;
  const result = await handler({ params, query, body, caller, request, requestId: facts.requestId, signal: request.signal, context });
  const headers = commonHeaders(facts.requestId);
  if (result instanceof Response) {
    for (const [name, value] of Object.entries(headers)) result.headers.set(name, value);
    return result;
  }
  if (result === undefined || request.method === "HEAD") return new Response(null, { status: endpoint.status, headers });
  return new Response(`${JSON.stringify(result)}\n`, {
    status: endpoint.status,
    headers: { ...headers, "content-type": "application/json" },
  });
}

/** An empty body counts as none; where one is needed, as an empty object, so that the first missing field is named. */
async function bodyOf(context: ApiContext, request: Request, schema: NonNullable<Endpoint["body"]>): Promise<unknown> {
  const raw = await readJsonBody(request, context.bodyBytesMax);
  return validateBody(schema, raw ?? (schema.safeParse(undefined).success ? undefined : {}));
}

/** Throws `not_ready` or `shutting_down` while the server cannot serve. */
export function requireReady(context: ApiContext): void {
  const state = context.state();
  if (state === "starting") throw new ApiError("not_ready", "the server is starting");
  if (state === "stopping") throw new ApiError("shutting_down", "the server is stopping");
}

/** Why there is no endpoint; what is not offered yet is told only to callers with a token. */
function noEndpoint(context: ApiContext, request: Request, route: Exclude<Route, { kind: "endpoint" | "control" }>): ApiError {
  if (route.kind === "not_available_yet")
    authorize(context.features.organizations, request.headers.get("authorization") ?? undefined, { access: "token" }, {});
  return routeError(route);
}

/** The error for a route without endpoint. */
export function routeError(route: Exclude<Route, { kind: "endpoint" | "control" }>): ApiError {
  switch (route.kind) {
    case "method_not_allowed":
      return new ApiError("method_not_allowed", `this path takes ${route.allow.join(", ")}`);
    case "websocket_required":
      return new ApiError("websocket_required", "this path is opened as a WebSocket");
    case "not_available_yet":
      return new ApiError("not_available_yet", `this server does not offer ${route.what} yet`);
    case "not_found":
      return new ApiError("not_found", "there is nothing at this path");
  }
}

/** Path of control connections, which are no endpoint of the table. */
const CONTROL_PATH = "/v1/sprites/{name}/control";

/** Counts a request and writes its one line. Faults of ours are errors, with their cause; the rest is information. */
export function noteRequest(
  context: ApiContext,
  facts: RequestFacts,
  outcome: { method: string; status: number; durationMs: number; error: ApiError | undefined },
): void {
  const { error } = outcome;
  context.features.metrics.requestServed({
    method: outcome.method,
    route: facts.endpoint === undefined ? undefined : facts.endpoint === "control" ? CONTROL_PATH : ENDPOINTS[facts.endpoint].path,
    status: facts.clientGone ? undefined : outcome.status,
    durationMs: outcome.durationMs,
    code: error?.code,
  });
  const { clientGone, ...known } = facts;
  const fields = { event: "request", ...known, method: outcome.method, status: outcome.status, durationMs: Math.round(outcome.durationMs) };
  if (clientGone) context.logger.info({ ...fields, outcome: "client_gone" }, "the client left");
  else if (error && error.status >= 500 && error.code !== "not_available_yet")
    context.logger.error({ ...fields, outcome: error.code, err: error }, "request failed");
  else context.logger.info({ ...fields, outcome: error?.code ?? "ok" }, "request");
}
