/**
 * From method and path to an endpoint: the one matcher for HTTP requests and WebSocket upgrades.
 * Pure. Path segments are decoded after splitting, so `%2F` never makes a segment.
 */
import type { Endpoint, Method } from "./endpoint.ts";
import { type EndpointName, ENDPOINTS, NOT_AVAILABLE_YET } from "./endpoints.ts";

export type Route =
  | { kind: "endpoint"; name: EndpointName; endpoint: Endpoint; params: Record<string, string> }
  /** The path exists for other methods. */
  | { kind: "method_not_allowed"; allow: string[] }
  /** The path exists only as a WebSocket. */
  | { kind: "websocket_required" }
  /** `/v1/sprites/{name}/control`: where it is not offered, 404 with an empty body. */
  | { kind: "control"; sprite: string }
  | { kind: "not_available_yet"; what: string }
  | { kind: "not_found" };

interface Row {
  name: EndpointName;
  endpoint: Endpoint;
  segments: string[];
}

const ROWS: readonly Row[] = Object.entries(ENDPOINTS).map(([name, definition]) => ({
  name: name as EndpointName,
  endpoint: definition,
  segments: definition.path.split("/"),
}));

/** Finds what `method path` means. `path` is as on the wire, without query. */
export function matchRoute(method: string, path: string, options: { upgrade: boolean }): Route {
  const segments = decodeSegments(path);
  if (!segments) return { kind: "not_found" };
  const wanted: string = method === "HEAD" ? "GET" : method;
  const matches: { row: Row; params: Record<string, string> }[] = [];
  for (const row of ROWS) {
    const params = matchSegments(row.segments, segments);
    if (params) matches.push({ row, params });
  }
  const found = matches.find(({ row }) => row.endpoint.method === wanted && (row.endpoint.kind === "websocket") === options.upgrade);
  if (found) return { kind: "endpoint", name: found.row.name, endpoint: found.row.endpoint, params: found.params };
  return matches.length > 0
    ? whyNot(
        matches.map(({ row }) => row.endpoint),
        wanted,
      )
    : unknownPath(segments);
}

function whyNot(endpoints: Endpoint[], wanted: string): Route {
  if (endpoints.some((candidate) => candidate.method === wanted && candidate.kind === "websocket")) return { kind: "websocket_required" };
  const allow = new Set<Method | "HEAD">(endpoints.map((candidate) => candidate.method));
  if (allow.has("GET")) allow.add("HEAD");
  return { kind: "method_not_allowed", allow: [...allow].sort() };
}

function unknownPath(segments: string[]): Route {
  const [, v1, sprites, sprite = "", feature, ...rest] = segments;
  if (v1 !== "v1" || sprites !== "sprites" || feature === undefined) return { kind: "not_found" };
  if (feature === "control" && rest.length === 0) return { kind: "control", sprite };
  const known = NOT_AVAILABLE_YET.find(({ prefix }) => prefix === feature);
  return known ? { kind: "not_available_yet", what: known.what } : { kind: "not_found" };
}

function decodeSegments(path: string): string[] | undefined {
  try {
    return path.split("/").map((segment) => decodeURIComponent(segment));
  } catch {
    return undefined; // broken percent-encoding names nothing
  }
}

function matchSegments(pattern: readonly string[], segments: readonly string[]): Record<string, string> | undefined {
  if (pattern.length !== segments.length) return undefined;
  const params: Record<string, string> = {};
  for (const [index, part] of pattern.entries()) {
    const segment = segments[index] ?? "";
    if (part.startsWith("{")) {
      if (segment === "") return undefined;
      params[part.slice(1, -1)] = segment;
    } else if (part !== segment) {
      return undefined;
    }
  }
  return params;
}

/** The path of an endpoint with its segments filled in. */
export function fillPath(path: string, params: Readonly<Record<string, string>>): string {
  return path.replace(/\{([a-z_]+)\}/g, (_, name: string) => encodeURIComponent(params[name] ?? ""));
}
