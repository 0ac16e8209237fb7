/** Requests to the API (METR-2, METR-6). Invariant: every label is of a closed set, whatever a client sends. */
import type { Instruments } from "./instruments.ts";

export interface ServedRequest {
  /** As the client sent it, or `UPGRADE` for a WebSocket. */
  method: string;
  /** Template of the path; undefined where there is no endpoint. */
  route: string | undefined;
  /** Undefined: the client left before. */
  status: number | undefined;
  durationMs: number;
  /** Code of the error it was answered with. */
  code: string | undefined;
}

const METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "DELETE", "UPGRADE"]);
/** What web servers call a client that left before its answer. */
const CLIENT_GONE = 499;

/** Returns what counts a request. */
export function requestMetrics(instruments: Instruments): (request: ServedRequest) => void {
  const requests = instruments.counter("sprited_http_requests_total", "Requests that were answered; 499: the client left before", [
    "method",
    "route",
    "status",
  ]);
  const seconds = instruments.histogram("sprited_http_request_seconds", "From a request to the begin of its answer", ["method", "route"]);
  const errors = instruments.counter("sprited_http_errors_total", "Requests that were refused or failed, by the code of the error", [
    "code",
  ]);
  return (request) => {
    const labels = { method: METHODS.has(request.method) ? request.method : "other", route: request.route ?? "unmatched" };
    requests.inc({ ...labels, status: request.status ?? CLIENT_GONE });
    seconds.observe(labels, request.durationMs / 1000);
    if (request.code !== undefined && request.status !== undefined) errors.inc({ code: request.code });
  };
}
