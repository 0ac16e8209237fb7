/**
 * Calls on a sprite's files that stream: over `node:http`, so that nothing is held in memory.
 *
 * Invariants: an answer outside 2xx becomes an `ApiError`; a connection that breaks or stays
 * silent becomes a `ConnectionError`; both ends of a stream hold each other back.
 */
import { type IncomingMessage, request as httpRequest, type RequestOptions } from "node:http";
import type { Readable } from "node:stream";
import { ConnectionError } from "@sprited/protocol/client/errors";
import { ApiError } from "@sprited/protocol/errors";
import { type ApiAddress, callApi } from "../api/http.ts";
import { isObject } from "../settings/files.ts";

/** Silence after which a transfer counts as lost, ms. */
const SILENCE_MS = 60_000;
/** The same while the sprite is at work and says nothing: waking, hashing. */
const WORK_MS = 600_000;
const ERROR_BYTES_MAX = 64 * 1024;

/** One sprite's files. */
export interface Remote {
  address: ApiAddress;
  sprite: string;
  /** Those of a checkpoint instead; they can only be read. */
  checkpoint?: string | undefined;
}

export interface RemoteStat {
  path: string;
  type: string;
  size: number;
  /** Permission bits. */
  mode: number;
  mtimeMs: number;
  etag: string;
  sha256: string | undefined;
}

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

/** Path of a call, with its query. */
export function callPath(remote: Remote, name: string, query: Query): string {
  const parameters = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) if (value !== undefined) parameters.set(key, String(value));
  const of = remote.checkpoint === undefined ? "" : `/checkpoints/${encodeURIComponent(remote.checkpoint)}`;
  return `/v1/sprites/${encodeURIComponent(remote.sprite)}${of}/fs/${name}?${parameters.toString()}`;
}

/** Undefined when there is nothing at the path. */
export async function statRemote(remote: Remote, path: string, options: { digest?: boolean } = {}): Promise<RemoteStat | undefined> {
  try {
    const query = { path, digest: options.digest ? true : undefined };
    const answer = await callApi(remote.address, { method: "GET", path: callPath(remote, "stat", query), timeoutMs: WORK_MS });
    if (!isObject(answer)) throw new ConnectionError("bad_answer", "the answer does not describe a file");
    return {
      path: String(answer["path"]),
      type: String(answer["type"]),
      size: Number(answer["size"]),
      mode: Number.parseInt(String(answer["mode"]), 8),
      mtimeMs: Date.parse(String(answer["modTime"])),
      etag: String(answer["etag"]),
      sha256: typeof answer["sha256"] === "string" ? answer["sha256"] : undefined,
    };
  } catch (error) {
    if (ApiError.is(error) && error.code === "file_not_found") return undefined;
    throw error;
  }
}

/** Bytes that the sprite has of an interrupted upload. */
export async function uploadedBytes(remote: Remote, upload: string): Promise<number> {
  const answer = await callApi(remote.address, { method: "GET", path: callPath(remote, "upload", { upload }), timeoutMs: WORK_MS });
  return isObject(answer) ? Number(answer["offset"]) : 0;
}

/** Opens a download; its body is the answer. */
export async function download(remote: Remote, path: string, headers: Record<string, string> = {}): Promise<IncomingMessage> {
  const { response } = await open(remote, { method: "GET", path, headers }, undefined);
  return response;
}

/** Sends `body` and returns the JSON of the answer. */
export async function upload(
  remote: Remote,
  path: string,
  body: Readable,
  call: { method?: "PUT" | "POST"; headers?: Record<string, string> } = {},
): Promise<unknown> {
  const { method = "PUT" } = call;
  const headers = { "content-type": "application/octet-stream", ...call.headers };
  const { response } = await open(remote, { method, path, headers }, body);
  return JSON.parse(await text(response)) as unknown;
}

async function open(
  remote: Remote,
  call: { method: string; path: string; headers: Record<string, string> },
  body: Readable | undefined,
): Promise<{ response: IncomingMessage }> {
  const url = new URL(`${remote.address.apiUrl}${call.path}`);
  const init: RequestOptions = { method: call.method, headers: { authorization: `Bearer ${remote.address.token}`, ...call.headers } };
  const start = url.protocol === "https:" ? (await import("node:https")).request : httpRequest; // TLS takes long to load
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const request = start(url, init, resolve);
    const lost = (cause: unknown): void => reject(asLost(cause, remote.address.apiUrl));
    request.setTimeout(WORK_MS, () => request.destroy(new ConnectionError("timeout", "the server has gone silent")));
    request.on("error", lost);
    if (!body) return void request.end();
    body.once("error", (error) => {
      reject(error);
      request.destroy();
    });
    request.on("response", () => body.unpipe(request));
    request.once("close", () => body.destroy());
    body.pipe(request);
  });
  response.setTimeout(SILENCE_MS, () => response.destroy(new ConnectionError("timeout", "the server has gone silent")));
  if ((response.statusCode ?? 0) < 300) return { response };
  throw ApiError.fromAnswer(response.statusCode ?? 500, await text(response));
}

/** The chunks of an answer; a cut connection is a `ConnectionError`. */
export async function* chunksOf(response: IncomingMessage): AsyncGenerator<Buffer, void, void> {
  try {
    for await (const chunk of response) yield chunk as Buffer;
  } catch (cause) {
    throw asLost(cause, "the server");
  }
  if (!response.complete) throw new ConnectionError("closed", "the connection ended before all had come");
}

async function text(response: IncomingMessage): Promise<string> {
  let all = "";
  for await (const chunk of chunksOf(response)) if (all.length < ERROR_BYTES_MAX) all += chunk.toString("utf8");
  return all;
}

function asLost(cause: unknown, apiUrl: string): unknown {
  if (cause instanceof ConnectionError || ApiError.is(cause)) return cause;
  const code = (cause as { code?: unknown }).code;
  if (code === "ECONNRESET" || code === "EPIPE" || code === "ERR_STREAM_PREMATURE_CLOSE")
    return new ConnectionError("closed", "the connection was cut", { cause });
  return new ConnectionError("unreachable", `cannot reach ${apiUrl}`, { cause });
}
