/**
 * The agent's end of the link (LINK-1..4): HTTP/2 with prior knowledge over any carrier.
 *
 * Invariants: nothing but `/hello` is answered before the host proved the key; a new incarnation
 * closes every link of the old one; a link's end leaves the sessions as they are.
 */
import http2 from "node:http2";
import type { IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import type { Duplex } from "node:stream";
import { ignore, sleep } from "@sprited/base";
import {
  clockRequest,
  freezeRequest,
  GUEST_GENERATION,
  GUEST_LIMITS,
  type GuestErrorCode,
  type GuestStatus,
  helloRequest,
  LINK_WINDOWS,
  restRequest,
} from "@sprited/protocol/guest";
import { z } from "zod";
import { RefusedError, type SessionRegistry } from "../session/registry.ts";
import type { Session } from "../session/session.ts";
import type { SessionStart } from "@sprited/protocol/guest";
import type { PortWatch } from "../net/port-watch.ts";
import { servePorts } from "../net/ports-stream.ts";
import { proofOf, sameProof } from "./proof.ts";
import { serveSessionStream } from "./session-stream.ts";

/** How long a hello waits for the bootstrap that brings its key, ms. */
const HELLO_WAIT_MS = 30_000;
/** Links at once; the host needs one. */
const LINKS_MAX = 16;
/**
 * Streams that the host may leave at once and each second. It leaves one for every command that has
 * ended; HTTP/2 servers by themselves end a connection that does so more than 33 times a second.
 */
const LEFT_STREAMS_MAX = 1_000_000;

const STATUS_OF: Record<GuestErrorCode, number> = {
  unauthorized: 401,
  not_found: 404,
  exists: 409,
  invalid: 400,
  inner_failed: 503,
  unreachable: 502,
  busy: 429,
  internal: 500,
};

const stopRequest = z.object({ grace_ms: z.int().min(0).max(600_000) });

/** What the link offers, done elsewhere. Everything rejects with `RefusedError`. */
export interface LinkService {
  readonly agentVersion: string;
  readonly sessions: SessionRegistry;
  readonly ports: PortWatch;
  status(): GuestStatus;
  startSession(id: string, start: SessionStart): Promise<Session>;
  stop(graceMs: number): Promise<void>;
  sync(): Promise<void>;
  /** Writes everything to the disk and keeps it from being written until `thaw`, at most `timeoutMs`. */
  freeze(timeoutMs: number): Promise<void>;
  /** Returns whether the freeze held until now. */
  thaw(): Promise<{ held: boolean }>;
  /** Stops every process of the sprite until the next bootstrap. */
  rest(options: { sync: boolean }): Promise<void>;
  /** Serves one file call (FILE-1). */
  serveFile(stream: ServerHttp2Stream): void;
  /** Steps the wall clock, ms since the epoch. */
  setClock(timeMs: number): void;
}

export interface LinkKey {
  incarnation: string;
  key: Uint8Array;
}

export class LinkServer {
  readonly #service: LinkService;
  readonly #links = new Map<ServerHttp2Session, { greeted: boolean }>();
  #key: LinkKey | undefined;
  #waiting = new Set<() => void>();

  constructor(service: LinkService) {
    this.#service = service;
  }

  /** Replaces the key. With another incarnation every open link that greeted the old one is closed. */
  setKey(key: LinkKey): void {
    const isNew = this.#key?.incarnation !== key.incarnation;
    this.#key = key;
    if (isNew) for (const [link, state] of this.#links) if (state.greeted) link.destroy();
    for (const wake of this.#waiting) wake();
  }

  /** Serves a link over `carrier` until it breaks. */
  serve(carrier: Duplex): void {
    carrier.on("error", ignore("the session ends with its carrier"));
    if (this.#links.size >= LINKS_MAX) {
      carrier.destroy();
      return;
    }
    const link = http2.performServerHandshake(carrier, {
      settings: {
        initialWindowSize: LINK_WINDOWS.streamBytes,
        maxConcurrentStreams: GUEST_LIMITS.sessionsMax + 64,
        enablePush: false,
        maxHeaderListSize: 8192,
      },
      maxSessionMemory: 128,
      streamResetBurst: LEFT_STREAMS_MAX,
      streamResetRate: LEFT_STREAMS_MAX,
    }) as ServerHttp2Session;
    const state = { greeted: false };
    this.#links.set(link, state);
    link.setLocalWindowSize(LINK_WINDOWS.linkBytes);
    link.on("error", ignore("a broken link is dialled anew by the host"));
    link.once("close", () => {
      this.#links.delete(link);
      carrier.destroy();
    });
    link.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
      stream.on("error", ignore("the host left the stream"));
      this.#route(stream, String(headers[":method"]), String(headers[":path"]), state).catch((error: unknown) => refuse(stream, error));
    });
  }

  /** Closes every link. */
  closeLinks(): void {
    for (const link of this.#links.keys()) link.destroy();
  }

  async #route(stream: ServerHttp2Stream, method: string, path: string, state: { greeted: boolean }): Promise<void> {
    if (method === "POST" && path === "/hello") {
      await this.#hello(stream, state);
      return;
    }
    if (!state.greeted) throw new RefusedError("unauthorized", "say hello first");
    const service = this.#service;
    if (method === "GET" && path === "/status") return answer(stream, service.status());
    if (method === "GET" && path === "/ports") return servePorts(stream, service.ports);
    if (method === "POST" && path === "/fs") return service.serveFile(stream);
    if (method === "GET" && path === "/sessions") return answer(stream, { sessions: service.sessions.list() });
    if (method === "POST" && path === "/stop") {
      await service.stop(stopRequest.parse(await readJson(stream)).grace_ms);
      return answer(stream, {});
    }
    if (method === "POST" && path === "/sync") {
      await service.sync();
      return answer(stream, {});
    }
    if (method === "POST" && path === "/freeze") {
      await service.freeze(freezeRequest.parse(await readJson(stream)).timeout_ms);
      return answer(stream, {});
    }
    if (method === "POST" && path === "/thaw") return answer(stream, await service.thaw());
    if (method === "POST" && path === "/rest") {
      await service.rest(restRequest.parse(await readJson(stream)));
      return answer(stream, {});
    }
    if (method === "POST" && path === "/clock") {
      service.setClock(clockRequest.parse(await readJson(stream)).time_ms);
      return answer(stream, {});
    }
    const [, id, action] = /^\/sessions\/([0-9]{1,20})(\/attach)?$/.exec(path) ?? [];
    if (id === undefined) throw new RefusedError("not_found", "no such request");
    if (method === "POST" && action === undefined) {
      service.sessions.reserve(id);
      serveSessionStream(stream, { kind: "start", open: (start) => service.startSession(id, start) });
      return;
    }
    const session = service.sessions.find(id);
    if (method === "POST") {
      if (!session) throw new RefusedError("not_found", `no session ${id}`);
      serveSessionStream(stream, { kind: "attach", session });
      return;
    }
    if (method !== "DELETE") throw new RefusedError("not_found", "no such request");
    service.sessions.delete(id);
    answer(stream, {});
  }

  async #hello(stream: ServerHttp2Stream, state: { greeted: boolean }): Promise<void> {
    const hello = helloRequest.parse(await readJson(stream));
    if (this.#key?.incarnation !== hello.incarnation) await this.#nextKey(stream, hello.incarnation);
    const key = this.#key;
    const isProven =
      key?.incarnation === hello.incarnation && sameProof(hello.proof, proofOf("host", key.key, hello.incarnation, hello.nonce));
    if (!key || !isProven) throw new RefusedError("unauthorized", "the proof does not match");
    state.greeted = true;
    answer(stream, {
      generation: GUEST_GENERATION,
      agent_version: this.#service.agentVersion,
      incarnation: key.incarnation,
      proof: proofOf("agent", key.key, key.incarnation, hello.nonce),
    });
  }

  /** Resolves when the key of `incarnation` has come, the stream has gone, or the wait is over. */
  async #nextKey(stream: ServerHttp2Stream, incarnation: string): Promise<void> {
    const gone = new AbortController();
    stream.once("close", () => gone.abort());
    const come = Promise.withResolvers<void>();
    const wake = (): void => {
      if (this.#key?.incarnation === incarnation) come.resolve();
    };
    this.#waiting.add(wake);
    try {
      await Promise.race([come.promise, sleep(HELLO_WAIT_MS, { signal: gone.signal })]);
    } catch {
      // The host left: nobody hears the answer.
    } finally {
      this.#waiting.delete(wake);
      gone.abort();
    }
  }
}

async function readJson(stream: ServerHttp2Stream): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > GUEST_LIMITS.jsonBytesMax) throw new RefusedError("invalid", `the body is longer than ${GUEST_LIMITS.jsonBytesMax} bytes`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch (cause) {
    throw new RefusedError("invalid", "the body is not JSON", { cause });
  }
}

function answer(stream: ServerHttp2Stream, body: unknown): void {
  if (stream.destroyed) return;
  stream.respond({ ":status": 200, "content-type": "application/json" });
  stream.end(JSON.stringify(body));
}

function refuse(stream: ServerHttp2Stream, error: unknown): void {
  if (stream.destroyed || stream.headersSent) {
    stream.destroy();
    return;
  }
  const refused =
    error instanceof RefusedError
      ? error
      : error instanceof z.ZodError
        ? new RefusedError("invalid", "the request does not fit its schema", { cause: error })
        : new RefusedError("internal", "the agent failed", { cause: error });
  stream.respond({ ":status": STATUS_OF[refused.code], "content-type": "application/json" });
  stream.end(JSON.stringify({ code: refused.code, message: refused.message.slice(0, 4096) }));
}
