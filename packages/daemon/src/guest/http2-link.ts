/**
 * The daemon's end of a link: one HTTP/2 client session over one carrier (LINK-1..4).
 *
 * Invariants: nothing is asked before both ends proved the key; memory is bounded whatever the
 * agent sends (windows, header limits, body limits); any violation of the protocol closes the
 * link with `guest_protocol`; `closed` resolves exactly once.
 */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import http2 from "node:http2";
import type { ClientHttp2Session, ClientHttp2Stream } from "node:http2";
import type { Duplex } from "node:stream";
import { DeadlineError, ignore, sleep, withDeadline } from "@sprited/base";
import {
  encodeJsonFrame,
  type FileRequest,
  FrameType,
  GUEST_GENERATION,
  GUEST_GENERATIONS_SPOKEN,
  GUEST_LIMITS,
  guestError,
  guestErrorCode,
  type GuestErrorCode,
  guestSessions,
  guestStatus,
  helloReply,
  LINK_WINDOWS,
  type PortsLine,
  type SessionResume,
  type SessionStart,
  thawReply,
} from "@sprited/protocol/guest";
import { z } from "zod";
import { BodyError, readJson, responseStatus, StreamLostError } from "./answer.ts";
import { openCarrier } from "./dial.ts";
import { eagerCarrier } from "./eager-carrier.ts";
import { GuestError, type GuestFault } from "./errors.ts";
import { beginFileCall, type GuestFileCall } from "./file-call.ts";
import type { CallOptions, GuestCarrier, GuestLink, LinkKey, SessionStream } from "./link.ts";
import { readPortLines } from "./port-lines.ts";
import { GuestSessionStream } from "./session-stream.ts";

/** Default limit of a call, ms. */
const CALL_TIMEOUT_MS = 30_000;
/** A broken attempt is followed by the next after this long, ms. */
const RETRY_PAUSE_MS = 30;
/** When the guest's clock is set once more after a link was opened, ms. */
const CLOCK_DELAY_MS = 500;
/** How long a session that breaks may take to say so, ms. */
const SETTLE_MS = 30;
/** Longest list of sessions, bytes. */
const SESSIONS_BYTES_MAX = 8 * 1024 * 1024;
/** Memory of one HTTP/2 session, MB; above the window of the link. */
const SESSION_MEMORY_MB = 32;

/** Errors of the HTTP/2 library that mean garbage from the other end. */
const PROTOCOL_CODES: ReadonlySet<string> = new Set(["ERR_HTTP2_ERROR", "ERR_HTTP2_TOO_MANY_INVALID_FRAMES"]);

const FAULT_OF: Record<GuestErrorCode, GuestFault> = {
  unauthorized: "guest_refused_start",
  not_found: "guest_session_unknown",
  exists: "guest_session_exists",
  invalid: "guest_refused",
  inner_failed: "guest_inner_failed",
  unreachable: "guest_unreachable",
  busy: "guest_busy",
  internal: "guest_failed",
};

/**
 * Dials the agent and greets it; tries again while the guest is coming up. May be called before
 * `bootstrapGuest` has answered: the agent waits for the key. Throws `GuestError`: `guest_timeout`,
 * `guest_protocol`, `guest_refused_start` when the key is wrong.
 */
export async function openLink(
  carrier: GuestCarrier,
  key: LinkKey,
  options: { signal?: AbortSignal | undefined; timeoutMs: number },
): Promise<GuestLink> {
  try {
    return await withDeadline("the guest's agent", options, async (signal) => {
      for (;;) {
        const duplex = await eagerCarrier(await openCarrier(carrier, { signal, timeoutMs: options.timeoutMs }), signal);
        try {
          return await greet(duplex, key, signal);
        } catch (error) {
          duplex.destroy();
          signal.throwIfAborted();
          if (!(error instanceof GuestError) || error.code !== "guest_link_lost") throw error;
          await sleep(RETRY_PAUSE_MS, { signal });
        }
      }
    });
  } catch (error) {
    options.signal?.throwIfAborted();
    if (error instanceof DeadlineError) throw new GuestError("guest_timeout", "the guest's agent did not answer in time", { cause: error });
    throw error;
  }
}

async function greet(duplex: Duplex, key: LinkKey, signal: AbortSignal): Promise<GuestLink> {
  const link = new Http2Link(duplex, key.incarnation);
  const stop = (): void => void duplex.destroy();
  signal.addEventListener("abort", stop, { once: true });
  try {
    await link.hello(key.key);
    return link;
  } catch (error) {
    await link[Symbol.asyncDispose]();
    throw error;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

const anything = z.unknown();

class Http2Link implements GuestLink {
  readonly incarnation: string;
  readonly closed: Promise<Error>;
  agentVersion = "";
  readonly #session: ClientHttp2Session;
  #failure: Error | undefined;

  constructor(duplex: Duplex, incarnation: string) {
    this.incarnation = incarnation;
    this.#session = http2.connect("http://agent", {
      createConnection: () => duplex,
      settings: {
        enablePush: false,
        initialWindowSize: LINK_WINDOWS.streamBytes,
        maxHeaderListSize: 8192,
        maxConcurrentStreams: 0,
      },
      maxSessionMemory: SESSION_MEMORY_MB,
      maxHeaderListPairs: 32,
      maxReservedRemoteStreams: 0,
      maxOutstandingPings: 10,
      maxSendHeaderBlockLength: 8192,
    });
    duplex.on("error", ignore("its session tells"));
    this.#session.once("connect", () => this.#session.setLocalWindowSize(LINK_WINDOWS.linkBytes));
    this.#session.on("error", (error: NodeJS.ErrnoException) => this.#fail(faultOf(error)));
    this.#session.on("goaway", () => this.#fail(new GuestError("guest_link_lost", "the guest's agent closed the link")));
    this.closed = new Promise((resolve) => {
      this.#session.once("close", () => {
        this.#failure ??= new GuestError("guest_link_lost", "the link to the guest broke");
        duplex.destroy();
        resolve(this.#failure);
      });
    });
  }

  /** Proves the key to the agent and has it proven (LINK-1). */
  async hello(key: Uint8Array): Promise<void> {
    const nonce = randomBytes(16).toString("hex");
    const body = {
      generation: GUEST_GENERATION,
      incarnation: this.incarnation,
      nonce,
      proof: proofOf("host", key, this.incarnation, nonce),
    };
    // The agent may be waiting for its key: the dial's own deadline ends this.
    const reply = await this.#call("POST", "/hello", helloReply, { body, timeoutMs: 2 ** 31 - 1 });
    const expected = proofOf("agent", key, this.incarnation, nonce);
    const isProven = reply.incarnation === this.incarnation && timingSafeEqual(Buffer.from(reply.proof), Buffer.from(expected));
    if (!isProven || !GUEST_GENERATIONS_SPOKEN.includes(reply.generation))
      throw this.#violation(new Error("the agent's proof or generation is wrong"));
    this.agentVersion = reply.agent_version;
    this.#correctClock().catch(ignore("the clock stays as the bootstrap set it"));
  }

  /**
   * Sets the guest's clock once more (LINK-5): the time of the bootstrap was old by as long as the
   * resumed guest took to read it. Not at once, so that it does not hold up a first command.
   */
  async #correctClock(): Promise<void> {
    await sleep(CLOCK_DELAY_MS);
    await this.setClock();
  }

  async setClock(options?: CallOptions): Promise<void> {
    await this.#call("POST", "/clock", anything, { ...options, body: { time_ms: Date.now() } });
  }

  status(options?: CallOptions) {
    return this.#call("GET", "/status", guestStatus, { ...options });
  }

  async listSessions(options?: CallOptions) {
    return (await this.#call("GET", "/sessions", guestSessions, { ...options, bytesMax: SESSIONS_BYTES_MAX })).sessions;
  }

  async startSession(id: string, start: SessionStart, options?: CallOptions): Promise<SessionStream> {
    const path = `/sessions/${id}`;
    const stream = await this.#openStream(path, encodeJsonFrame(FrameType.start, start), { stdout: 0, stderr: 0 }, options);
    if (!("connect" in start)) return stream;
    try {
      const first = await this.#awaiting(path, options, () => stream.begun());
      if (first?.type !== "failed") return stream;
      const code = guestErrorCode.safeParse(first.code);
      throw new GuestError(FAULT_OF[code.data ?? "internal"], "the guest made no connection", { cause: new Error(first.message) });
    } catch (error) {
      stream.close();
      throw await this.#explain(error);
    }
  }

  openFileCall(request: FileRequest, options: { signal?: AbortSignal | undefined; firstAnswerMs: number }): GuestFileCall {
    return beginFileCall({
      stream: this.#request("POST", "/fs"),
      request,
      firstAnswerMs: options.firstAnswerMs,
      signal: options.signal,
      onViolation: (violation) => this.#fail(violation),
      linkFailure: async () => {
        await this.#settled();
        return this.#failure;
      },
    });
  }

  watchPorts(options: { signal: AbortSignal }): AsyncIterable<PortsLine> {
    return readPortLines({ stream: this.#request("GET", "/ports"), onViolation: (error) => this.#fail(error), ...options });
  }

  async attachSession(id: string, resume: SessionResume, options?: CallOptions): Promise<SessionStream> {
    return await this.#openStream(`/sessions/${id}/attach`, encodeJsonFrame(FrameType.resume, resume), resume, options);
  }

  async deleteSession(id: string, options?: CallOptions): Promise<void> {
    try {
      await this.#call("DELETE", `/sessions/${id}`, anything, { ...options });
    } catch (error) {
      if (!(error instanceof GuestError) || error.code !== "guest_session_unknown") throw error;
    }
  }

  async stop(graceMs: number, options?: CallOptions): Promise<void> {
    await this.#call("POST", "/stop", anything, { ...options, body: { grace_ms: graceMs } });
  }

  async sync(options?: CallOptions): Promise<void> {
    await this.#call("POST", "/sync", anything, { ...options });
  }

  async freeze(freezeMs: number, options?: CallOptions): Promise<void> {
    await this.#call("POST", "/freeze", anything, { ...options, body: { timeout_ms: freezeMs } });
  }

  async rest(request: { sync: boolean }, options?: CallOptions): Promise<void> {
    await this.#call("POST", "/rest", anything, { ...options, body: request });
  }

  async thaw(options?: CallOptions): Promise<{ held: boolean }> {
    return await this.#call("POST", "/thaw", thawReply, { ...options });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#failure ??= new GuestError("guest_link_lost", "the link was closed");
    this.#session.destroy();
    await this.closed;
  }

  async #openStream(
    path: string,
    first: Uint8Array,
    from: { stdout: number; stderr: number },
    options: CallOptions | undefined,
  ): Promise<GuestSessionStream> {
    const stream = this.#request("POST", path);
    // `write` keeps the request open; both windows hold back whoever is too fast.
    stream.write(first);
    try {
      const status = await this.#awaiting(path, options, (signal) => responseStatus(stream, signal));
      if (status !== 200) throw await this.#awaiting(path, options, () => this.#refusal(stream, status));
    } catch (error) {
      stream.close(http2.constants.NGHTTP2_CANCEL);
      throw await this.#explain(error);
    }
    return new GuestSessionStream({
      stream,
      from,
      onViolation: (violation) => this.#fail(violation),
      linkFailure: async () => {
        await this.#settled();
        return this.#failure;
      },
    });
  }

  async #call<T>(
    method: string,
    path: string,
    schema: z.ZodType<T>,
    options: CallOptions & { body?: unknown; bytesMax?: number },
  ): Promise<T> {
    const stream = this.#request(method, path);
    stream.end(options.body === undefined ? undefined : JSON.stringify(options.body));
    try {
      return await this.#awaiting(path, options, async (signal) => {
        const status = await responseStatus(stream, signal);
        if (status !== 200) throw await this.#refusal(stream, status);
        const parsed = schema.safeParse(await readJson(stream, options.bytesMax ?? GUEST_LIMITS.jsonBytesMax));
        if (!parsed.success) throw this.#violation(parsed.error);
        return parsed.data;
      });
    } catch (error) {
      throw await this.#explain(error);
    } finally {
      stream.close(http2.constants.NGHTTP2_CANCEL);
    }
  }

  #request(method: string, path: string): ClientHttp2Stream {
    if (this.#failure) throw this.#failure;
    try {
      const stream = this.#session.request({ ":method": method, ":path": path }, { endStream: false });
      stream.on("error", ignore("whoever reads the stream is told"));
      return stream;
    } catch (cause) {
      throw new GuestError("guest_link_lost", "the link to the guest is closed", { cause });
    }
  }

  async #refusal(stream: ClientHttp2Stream, status: number): Promise<GuestError> {
    const parsed = guestError.safeParse(await readJson(stream, GUEST_LIMITS.jsonBytesMax));
    if (!parsed.success) return this.#violation(new Error(`status ${status} without a valid error`));
    const { code, message } = parsed.data;
    return new GuestError(FAULT_OF[code], `the guest's agent refused: ${code}`, { cause: new Error(message) });
  }

  async #awaiting<T>(path: string, options: CallOptions | undefined, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return await withDeadline(
      `the guest's answer to ${path}`,
      { timeoutMs: options?.timeoutMs ?? CALL_TIMEOUT_MS, signal: options?.signal },
      work,
    );
  }

  async #explain(error: unknown): Promise<unknown> {
    if (error instanceof DeadlineError) return new GuestError("guest_timeout", error.message, { cause: error });
    if (error instanceof BodyError) return this.#violation(error);
    if (!(error instanceof StreamLostError)) return error;
    // A broken session closes its streams first and tells why a little later.
    await this.#settled();
    return this.#failure ?? new GuestError("guest_link_lost", "the link to the guest broke", { cause: error });
  }

  /** Resolves when the link is gone, or when it seems to live on. */
  async #settled(): Promise<void> {
    await Promise.race([this.closed, sleep(SETTLE_MS)]);
  }

  #violation(cause: unknown): GuestError {
    const violation = new GuestError("guest_protocol", "the guest's agent broke the protocol", { cause });
    this.#fail(violation);
    return violation;
  }

  #fail(failure: Error): void {
    this.#failure ??= failure;
    this.#session.destroy();
  }
}

function faultOf(error: NodeJS.ErrnoException): GuestError {
  // What the HTTP/2 library cannot accept is the peer's doing; a lost carrier is nobody's.
  return PROTOCOL_CODES.has(error.code ?? "")
    ? new GuestError("guest_protocol", "the guest's agent broke the protocol", { cause: error })
    : new GuestError("guest_link_lost", "the link to the guest broke", { cause: error });
}

function proofOf(side: "host" | "agent", key: Uint8Array, incarnation: string, nonce: string): string {
  return createHmac("sha256", key).update(`${side}:${incarnation}:${nonce}`).digest("hex");
}
