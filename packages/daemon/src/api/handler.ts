/** What a handler is: it gets a checked request, calls one feature function and returns a view. */
import type { Clock, Logger } from "@sprited/base";
import type { Endpoint, EndpointNameOf, Endpoints, PathParams } from "@sprited/protocol/api";
import type { z } from "zod";
import type { Archives } from "../archive/index.ts";
import type { Checkpoints } from "../checkpoint/index.ts";
import type { Exec } from "../exec/exec.ts";
import type { Files } from "../files/index.ts";
import type { Jobs } from "../job/index.ts";
import type { Forks } from "../fork/index.ts";
import type { Metrics } from "../metrics/index.ts";
import type { Caller, Organizations, Quotas } from "../organization/index.ts";
import type { PoolsFeature } from "../pool/index.ts";
import type { PortWatches, Proxies } from "../ports/index.ts";
import type { GarbageCollection } from "../reclaim/index.ts";
import type { Sprites } from "../sprite/sprite.ts";
import type { TemplatesFeature } from "../template/index.ts";
import type { NamedClients } from "./named-clients.ts";

/** What the API asks of checkpoints. */
export type CheckpointCalls = Pick<Checkpoints, "create" | "list" | "get" | "delete" | "restore" | "undoRestore">;

/** What the API asks of jobs. */
export type JobCalls = Pick<Jobs, "start" | "get" | "list" | "wait" | "signal" | "readLog" | "delete">;

/** TCP connections into sprites. */
export type ProxyCalls = Pick<Proxies, "connect" | "resume" | "forget">;
/** The ports that sprites listen on. */
export type PortCalls = Pick<PortWatches, "watch">;

export interface ApiFeatures {
  sprites: Sprites;
  exec: Exec;
  files: Files;
  jobs: JobCalls;
  checkpoints: CheckpointCalls;
  forks: Pick<Forks, "fork">;
  archives: Pick<Archives, "export" | "import">;
  /** Files in checkpoints: the sprite is called `readerName`. */
  checkpointFiles: Files;
  templates: TemplatesFeature;
  pools: PoolsFeature;
  proxies: ProxyCalls;
  ports: PortCalls;
  organizations: Organizations;
  quotas: Quotas;
  garbage: Pick<GarbageCollection, "run">;
  metrics: Metrics;
}

/** Periods a test may shorten, ms. */
export interface ApiTimings {
  /** Silence after which an exec socket or a live list gets a sign of life; clients give up after 45 s. */
  keepAliveMs: number;
  /** From the request to the first answer of an exec call: a sprite may wait its turn to wake. Clients may give up sooner, some after 30 s. */
  execStartMs: number;
  /** How long a client may take to answer a close frame. */
  closeMs: number;
}

/** Everything handlers share. */
export interface ApiContext {
  features: ApiFeatures;
  logger: Logger;
  clock: Clock;
  /** Version of the program. */
  version: string;
  timings: ApiTimings;
  bodyBytesMax: number;
  /** Whether control connections are offered at all. */
  control: boolean;
  /** Clients of sessions that gave themselves a name, over whatever they are connected. */
  clients: NamedClients;
  state(): "starting" | "ready" | "stopping";
  /** Aborts when the server begins to stop: answers without end end then. */
  shutdown: AbortSignal;
  /** Address of the API, without a path. */
  baseUrl(): string;
  /** Public address of a sprite. */
  spriteUrl(name: string, organizationSlug: string): string;
}

type CallerOf<E extends Endpoint> = E["access"] extends "anyone" ? undefined : Caller;
type QueryOf<E> = E extends { query: infer Q extends z.ZodType } ? z.output<Q> : Record<string, never>;
type BodyOf<E> = E extends { body: infer B extends z.ZodType } ? z.output<B> : undefined;
type ReplyOf<E> = E extends { response: infer R extends z.ZodType } ? z.input<R> : undefined;

/** One checked request. */
export interface Call<E extends Endpoint> {
  params: PathParams<E["path"]>;
  query: QueryOf<E>;
  body: BodyOf<E>;
  caller: CallerOf<E>;
  request: Request;
  requestId: string;
  /** Aborts when the client is gone. */
  signal: AbortSignal;
  context: ApiContext;
}

/** Returns the JSON value of the answer, or a `Response` where the answer is a stream. */
export type Handler<E extends Endpoint> = (call: Call<E>) => Promise<ReplyOf<E> | Response> | ReplyOf<E> | Response;

/** A handler for every endpoint that is not a WebSocket: what is missing does not compile. */
export type HandlerTable = { [N in EndpointNameOf<"json" | "stream">]: Handler<Endpoints[N]> };
