/**
 * HTTP calls to a Sprites API, over `node:http`: it loads in a fraction of the time `fetch` takes.
 *
 * Invariants: every call has a deadline; an answer outside 2xx becomes an `ApiError`; what is no
 * answer becomes a `ConnectionError`; the token travels in the header only.
 */
import { request as httpRequest, type ClientRequest, type IncomingHttpHeaders, type IncomingMessage, type RequestOptions } from "node:http";
import { ConnectionError } from "@sprited/protocol/client/errors";
import { ApiError } from "@sprited/protocol/errors";
import { NdjsonDecoder } from "@sprited/protocol/stream";

/** Deadline of a call that starts no machine, ms. */
const CALL_TIMEOUT_MS = 30_000;
/** Largest answer that is read whole, bytes. */
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;
/** Silence after which a live stream counts as lost, ms; servers send a heartbeat more often. */
const STREAM_SILENCE_MS = 120_000;

/** Where to call, and with which right. */
export interface ApiAddress {
  apiUrl: string;
  token: string;
}

export interface Call {
  method: "GET" | "POST" | "PUT" | "DELETE";
  /** Path with query, from `/v1`. */
  path: string;
  body?: unknown;
  timeoutMs?: number;
  signal?: AbortSignal | undefined;
}

/** Sends a call and returns the JSON of its answer; undefined when the body is empty. */
export async function callApi(address: ApiAddress, call: Call): Promise<unknown> {
  const timeoutMs = call.timeoutMs ?? CALL_TIMEOUT_MS;
  const response = await send(address, call, { accept: "application/json", timeoutMs });
  const text = await readAll(response);
  if ((response.statusCode ?? 0) >= 300) throw ApiError.fromAnswer(response.statusCode ?? 500, text);
  if (text.trim() === "") return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ConnectionError("bad_answer", `${address.apiUrl} did not answer with JSON; is it a Sprites API?`, { cause });
  }
}

/** Opens a stream of NDJSON values. Leaving the loop closes it. */
export async function* streamApi(address: ApiAddress, call: Call): AsyncGenerator<unknown, void, void> {
  const response = await send(address, call, { accept: "application/x-ndjson", timeoutMs: CALL_TIMEOUT_MS });
  try {
    if ((response.statusCode ?? 0) >= 300) throw ApiError.fromAnswer(response.statusCode ?? 500, await readAll(response));
    if (!/ndjson/i.test(response.headers["content-type"] ?? "")) throw new ConnectionError("bad_answer", "this server has no live list");
    response.setTimeout(STREAM_SILENCE_MS, () => response.destroy(new ConnectionError("timeout", "the server has gone silent")));
    const decoder = new NdjsonDecoder();
    for await (const chunk of response) yield* decoder.push(chunk as Uint8Array);
    yield* decoder.end();
  } catch (cause) {
    throw asConnectionError(cause, address.apiUrl);
  } finally {
    response.destroy();
  }
}

/** An answer of raw bytes. */
export interface ByteAnswer {
  headers: IncomingHttpHeaders;
  /** Leaving the loop closes the connection; a connection that breaks is a `ConnectionError`. */
  bytes: AsyncGenerator<Uint8Array, void, void>;
  /** Ends the connection as if it had broken. */
  breakOff(): void;
}

/** Opens an answer of raw bytes; the deadline counts up to its head. */
export async function openBytes(address: ApiAddress, call: Call): Promise<ByteAnswer> {
  const response = await send(address, call, { accept: "application/octet-stream", timeoutMs: call.timeoutMs ?? CALL_TIMEOUT_MS });
  if ((response.statusCode ?? 0) >= 300) throw ApiError.fromAnswer(response.statusCode ?? 500, await readAll(response));
  return {
    headers: response.headers,
    bytes: bytesOf(response, address),
    breakOff: () => response.destroy(new ConnectionError("timeout", "the server has gone silent")),
  };
}

async function* bytesOf(response: IncomingMessage, address: ApiAddress): AsyncGenerator<Uint8Array, void, void> {
  try {
    for await (const chunk of response) yield chunk as Uint8Array;
  } catch (cause) {
    throw asConnectionError(cause, address.apiUrl);
  } finally {
    response.destroy();
  }
}

async function send(address: ApiAddress, call: Call, options: { accept: string; timeoutMs: number }): Promise<IncomingMessage> {
  const body = call.body === undefined ? undefined : Buffer.from(JSON.stringify(call.body));
  const url = new URL(`${address.apiUrl}${call.path}`);
  const init: RequestOptions = {
    method: call.method,
    headers: {
      authorization: `Bearer ${address.token}`,
      accept: options.accept,
      ...(body ? { "content-type": "application/json", "content-length": body.length } : {}),
    },
    ...(call.signal ? { signal: call.signal } : {}),
  };
  const open = url.protocol === "https:" ? (await import("node:https")).request : httpRequest; // TLS takes long to load
  return new Promise((resolve, reject) => {
    const request: ClientRequest = open(url, init, resolve);
    const timer = setTimeout(
      () =>
        request.destroy(
          new ConnectionError("timeout", `${address.apiUrl} did not answer within ${Math.round(options.timeoutMs / 1000)} s`),
        ),
      options.timeoutMs,
    );
    request.on("close", () => clearTimeout(timer));
    request.on("response", () => options.accept !== "application/json" && clearTimeout(timer));
    request.on("error", (cause) => reject(asConnectionError(cause, address.apiUrl)));
    request.end(body);
  });
}

async function readAll(response: IncomingMessage): Promise<string> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response) {
      bytes += (chunk as Uint8Array).length;
      if (bytes > ANSWER_BYTES_MAX) throw new ConnectionError("bad_answer", "the answer is larger than any of a Sprites API");
      pieces.push(chunk as Uint8Array);
    }
  } catch (cause) {
    if (cause instanceof ConnectionError) throw cause;
    throw new ConnectionError("closed", "the connection ended before the answer was complete", { cause });
  }
  return Buffer.concat(pieces).toString("utf8");
}

function asConnectionError(cause: unknown, apiUrl: string): unknown {
  if (cause instanceof ConnectionError || ApiError.is(cause)) return cause;
  if (cause instanceof Error && cause.name === "AbortError") return cause;
  return new ConnectionError("unreachable", `cannot reach ${apiUrl}`, { cause });
}
