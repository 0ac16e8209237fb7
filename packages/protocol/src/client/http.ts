/**
 * Typed calls over the endpoint table. Every call has a deadline; error answers become
 * `ApiError`, everything that is no answer becomes `ConnectionError`.
 */
import type { z } from "zod";
import type { Endpoint, PathParams } from "../api/endpoint.ts";
import { type EndpointName, type EndpointNameOf, type Endpoints, ENDPOINTS } from "../api/endpoints.ts";
import { queryToText } from "../api/query-text.ts";
import { fillPath } from "../api/route.ts";
import { ApiError } from "../errors.ts";
import { NdjsonDecoder } from "../stream/ndjson.ts";
import { ConnectionError } from "./errors.ts";

/** Deadline of a call that does not start a machine, ms. */
const CALL_TIMEOUT_MS = 30_000;
/** Deadline of calls that make disks or start machines, ms. */
const SLOW_CALL_TIMEOUT_MS = 180_000;
const SLOW_CALLS = new Set<EndpointName>(["createSprite", "deleteSprite", "restartSprite", "wakeSprite", "sleepSprite"]);

export interface ClientOptions {
  /** For example `http://127.0.0.1:7780`; a path is kept. */
  baseUrl: string;
  /** Left out for calls that need none. */
  token?: string | undefined;
  fetch?: typeof fetch;
}

export interface CallOptions {
  signal?: AbortSignal | undefined;
  timeoutMs?: number | undefined;
}

/** Values of an endpoint's query as a caller gives them. */
type QueryOf<E> = E extends { query: infer Q extends z.ZodObject }
  ? Partial<{ [K in keyof Q["shape"]]: string | number | boolean | readonly string[] }>
  : never;
type BodyOf<E> = E extends { body: infer B extends z.ZodType } ? z.input<B> : never;

/** What a call of the endpoint takes. */
export type CallInput<N extends EndpointName> = (keyof PathParams<Endpoints[N]["path"]> extends never
  ? unknown
  : { params: PathParams<Endpoints[N]["path"]> }) &
  ([QueryOf<Endpoints[N]>] extends [never] ? unknown : { query?: QueryOf<Endpoints[N]> }) &
  ([BodyOf<Endpoints[N]>] extends [never] ? unknown : { body?: BodyOf<Endpoints[N]> });

/** What a call of the endpoint gives. */
export type CallOutput<N extends EndpointName> = Endpoints[N] extends { response: infer R extends z.ZodType } ? z.output<R> : undefined;

type StreamedName = { [N in EndpointName]: Endpoints[N] extends { stream: { line: z.ZodType } } ? N : never }[EndpointName];
type LineOf<N extends StreamedName> = Endpoints[N] extends { stream: { line: infer L extends z.ZodType } } ? z.output<L> : never;

interface RawInput {
  params?: Record<string, string>;
  query?: Record<string, unknown>;
  body?: unknown;
}

export class ApiClient {
  readonly baseUrl: string;
  readonly #token: string | undefined;
  readonly #fetch: typeof fetch;

  constructor(options: ClientOptions) {
    this.baseUrl = options.baseUrl.replace(/\/+$/, "");
    this.#token = options.token;
    this.#fetch = options.fetch ?? fetch;
  }

  /** Calls an endpoint and reads its JSON answer. */
  async call<N extends EndpointNameOf<"json">>(name: N, input: CallInput<N>, options: CallOptions = {}): Promise<CallOutput<N>> {
    const definition: Endpoint = ENDPOINTS[name];
    const signal = withTimeout(options.signal, options.timeoutMs ?? (SLOW_CALLS.has(name) ? SLOW_CALL_TIMEOUT_MS : CALL_TIMEOUT_MS));
    const response = await this.#request(definition, input as RawInput, { accept: "application/json", signal });
    const text = await readText(response, signal);
    if (!definition.response) return undefined as CallOutput<N>;
    const result = definition.response.safeParse(parseJson(text));
    if (!result.success) throw new ConnectionError("bad_answer", `the answer to ${name} is not of this API`, { cause: result.error });
    return result.data as CallOutput<N>;
  }

  /** Calls an endpoint and reads its NDJSON answer line by line. Leaving the loop ends the stream. The deadline counts up to the answer's head. */
  async *stream<N extends StreamedName>(name: N, input: CallInput<N>, options: CallOptions = {}): AsyncGenerator<LineOf<N>, void, void> {
    const definition: Endpoint = ENDPOINTS[name];
    const line = definition.stream?.line;
    const ender = new AbortController();
    const timer = setTimeout(() => ender.abort(timeoutError()), options.timeoutMs ?? CALL_TIMEOUT_MS);
    const signal = options.signal ? AbortSignal.any([options.signal, ender.signal]) : ender.signal;
    try {
      const response = await this.#request(definition, input as RawInput, { accept: "application/x-ndjson", signal });
      clearTimeout(timer);
      const decoder = new NdjsonDecoder();
      for await (const chunk of chunks(response, signal)) {
        for (const value of decoder.push(chunk)) yield (line ? line.parse(value) : value) as LineOf<N>;
      }
      for (const value of decoder.end()) yield (line ? line.parse(value) : value) as LineOf<N>;
    } finally {
      clearTimeout(timer);
      ender.abort();
    }
  }

  async #request(definition: Endpoint, input: RawInput, options: { accept: string; signal: AbortSignal }): Promise<Response> {
    const query = queryToText(input.query ?? {});
    const url = `${this.baseUrl}${fillPath(definition.path, input.params ?? {})}${query === "" ? "" : `?${query}`}`;
    const headers: Record<string, string> = { accept: options.accept };
    if (this.#token !== undefined) headers["authorization"] = `Bearer ${this.#token}`;
    const init: RequestInit = { method: definition.method, headers, signal: options.signal };
    if (input.body !== undefined) {
      headers["content-type"] = "application/json";
      init.body = JSON.stringify(input.body);
    }
    const response = await reach(() => this.#fetch(url, init), options.signal, this.baseUrl);
    if (response.ok) return response;
    throw ApiError.fromAnswer(response.status, await readText(response, options.signal));
  }
}

/** Runs a fetch; what is no answer becomes a `ConnectionError`. */
export async function reach(work: () => Promise<Response>, signal: AbortSignal, baseUrl: string): Promise<Response> {
  try {
    return await work();
  } catch (cause) {
    if (signal.aborted) throw signal.reason;
    throw new ConnectionError("unreachable", `cannot reach ${baseUrl}`, { cause });
  }
}

/** Chunks of a body; a broken connection becomes a `ConnectionError`. */
export async function* chunks(response: Response, signal: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
  const reader = response.body?.getReader();
  if (!reader) return;
  for (;;) {
    let step: Awaited<ReturnType<typeof reader.read>>;
    try {
      step = await reader.read();
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      throw new ConnectionError("closed", "the connection ended before the answer was complete", { cause });
    }
    if (step.done) return;
    yield step.value as Uint8Array;
  }
}

/** The caller's signal joined with a deadline whose reason is a `ConnectionError`. */
export function withTimeout(signal: AbortSignal | undefined, timeoutMs: number): AbortSignal {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(timeoutError(timeoutMs)), timeoutMs);
  (timer as { unref?: () => void }).unref?.();
  return signal ? AbortSignal.any([signal, controller.signal]) : controller.signal;
}

function timeoutError(timeoutMs = CALL_TIMEOUT_MS): ConnectionError {
  return new ConnectionError("timeout", `no answer within ${Math.round(timeoutMs / 1000)} s`);
}

async function readText(response: Response, signal: AbortSignal): Promise<string> {
  try {
    return await response.text();
  } catch (cause) {
    if (signal.aborted) throw signal.reason;
    throw new ConnectionError("closed", "the connection ended before the answer was complete", { cause });
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // reported by the schema check that follows
  }
}
