/**
 * Plain HTTP against a target, byte for byte: paths are sent as given, nothing is normalised,
 * nothing is retried, connections are not kept.
 */
import http from "node:http";
import type { Target } from "./target.ts";

/** Longest wait for one answer, ms. */
const ANSWER_TIMEOUT_MS = 120_000;

export interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
  text: string;
  /** The body as JSON; throws when it is none. */
  json(): Record<string, unknown>;
}

export interface Question {
  method?: string;
  /** Undefined: the target's own; null: no `Authorization` at all. */
  token?: string | null | undefined;
  headers?: Record<string, string> | undefined;
  /** Sent as JSON. */
  json?: unknown;
  /** Sent as it is. */
  body?: string | Uint8Array | undefined;
  signal?: AbortSignal | undefined;
}

/** Asks and reads the whole answer. */
export async function ask(target: Target, path: string, question: Question = {}): Promise<Answer> {
  const response = await askStream(target, path, question);
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks);
  const text = body.toString("utf8");
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    body,
    text,
    json: () => JSON.parse(text) as Record<string, unknown>,
  };
}

/** Asks and resolves when the head of the answer is there. */
export async function askStream(target: Target, path: string, question: Question = {}): Promise<http.IncomingMessage> {
  const url = new URL(target.baseUrl);
  const body = question.json === undefined ? question.body : JSON.stringify(question.json);
  const token = question.token === undefined ? target.token : question.token;
  return await new Promise((resolve, reject) => {
    const request = http.request({
      host: url.hostname.replace(/^\[|\]$/g, ""),
      port: url.port,
      path,
      method: question.method ?? "GET",
      agent: false,
      timeout: ANSWER_TIMEOUT_MS,
      headers: {
        ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        ...(question.json === undefined ? {} : { "content-type": "application/json" }),
        ...(body === undefined || question.headers?.["transfer-encoding"] ? {} : { "content-length": String(Buffer.byteLength(body)) }),
        ...question.headers,
      },
      ...(question.signal ? { signal: question.signal } : {}),
    });
    request.on("timeout", () => request.destroy(new Error(`no answer to ${question.method ?? "GET"} ${path.slice(0, 200)}`)));
    request.on("error", reject);
    request.on("response", resolve);
    request.on("upgrade", () => reject(new Error("unexpected upgrade")));
    request.end(body);
  });
}
