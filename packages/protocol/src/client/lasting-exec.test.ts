import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { ApiError } from "../errors.ts";
import { decodeClientMessage, encodeExit, encodeFrame, StreamId } from "../stream/exec-messages.ts";
import { pauseBefore } from "./back-off.ts";
import { ConnectionError } from "./errors.ts";
import type { ExecWhat, openExec, WebSocketLike } from "./exec.ts";
import { InputKeeper } from "./input-keeper.ts";
import { type LastingConnection, type LastingHandlers, type LastingOptions, openLastingExec } from "./lasting-exec.ts";

/** A session in memory that speaks to any number of sockets, one after another. */
class FakeSession {
  readonly sockets: FakeSocket[] = [];
  readonly urls: URL[] = [];
  log: { stream: "stdout" | "stderr"; data: Uint8Array }[] = [];
  input = "";
  inputEnded = false;
  signals: string[] = [];
  sizes: unknown[] = [];
  exitCode: number | undefined;
  tty = false;
  counts = true;
  /** Oldest log position kept. */
  keptFrom = 0;
  picture: string | undefined;
  /** Messages each connection carries before it is cut, both ways together; the last holds for ever. */
  budgets: number[] = [];
  /** Answers instead of a session. */
  refusals: (number | undefined)[] = [];
  /** False: input is taken, and not said to be safe. */
  acknowledges = true;

  readonly open = (url: string): WebSocketLike => {
    this.urls.push(new URL(url));
    const socket = new FakeSocket(this, new URL(url), this.budgets.shift() ?? Infinity, this.refusals.shift());
    this.sockets.push(socket);
    return socket as unknown as WebSocketLike;
  };

  print(text: string, stream: "stdout" | "stderr" = "stdout"): void {
    this.log.push({ stream, data: Buffer.from(text) });
    this.sockets.at(-1)?.more();
  }

  exit(code: number): void {
    this.exitCode = code;
    this.sockets.at(-1)?.more();
  }
}

class FakeSocket {
  binaryType = "nodebuffer";
  bufferedAmount = 0;
  readyState = 0;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code?: number }) => void) | null = null;
  onerror: ((event: unknown) => void) | null = null;
  #onRefusal: ((request: object, response: object) => void) | undefined;
  readonly #session: FakeSession;
  #budget: number;
  #position = 0;
  #exitSent = false;

  constructor(session: FakeSession, url: URL, budget: number, refusal: number | undefined) {
    this.#session = session;
    this.#budget = budget;
    queueMicrotask(() => (refusal === undefined ? this.#begin(url) : this.#refuse(refusal)));
  }

  on(event: string, listener: (request: object, response: object) => void): void {
    if (event === "unexpected-response") this.#onRefusal = listener;
  }

  /** Sends what the session has beyond what this socket got. */
  more(): void {
    let at = 0;
    for (const { stream, data } of this.#session.log) {
      const skip = Math.max(0, this.#position - at);
      at += data.length;
      if (skip >= data.length || this.readyState !== 1) continue;
      this.#position = at;
      const rest = data.subarray(skip);
      this.#tell(this.#session.tty ? Buffer.from(rest) : encodeFrame(StreamId[stream], rest));
    }
    const { exitCode, tty } = this.#session;
    if (exitCode === undefined || this.#exitSent || this.readyState !== 1) return;
    this.#exitSent = true;
    this.#tell(tty ? JSON.stringify({ type: "exit", exit_code: exitCode, code: exitCode }) : encodeExit(exitCode));
  }

  send(data: Uint8Array | string): void {
    if (this.readyState !== 1 || !this.#spend()) return;
    const message = decodeClientMessage(data, { tty: this.#session.tty });
    if (message.kind === "input") {
      this.#session.input += Buffer.from(message.data).toString("latin1");
      if (this.#session.acknowledges) this.#tell(JSON.stringify({ type: "input_ack", offset: this.#session.input.length }));
    } else if (message.kind === "input_end") this.#session.inputEnded = true;
    else if (message.kind === "signal") this.#session.signals.push(message.signal);
    else if (message.kind === "resize") this.#session.sizes.push([message.cols, message.rows]);
  }

  close(): void {
    this.cut();
  }

  cut(): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    queueMicrotask(() => this.onclose?.({ code: 1006 }));
  }

  #begin(url: URL): void {
    if (this.readyState === 3) return;
    this.readyState = 1;
    const session = this.#session;
    const asked = url.searchParams.get("offset");
    const end = session.log.reduce((sum, { data }) => sum + data.length, 0);
    const picture = session.tty && asked === null && session.sockets.length > 1 ? session.picture : undefined;
    this.#position = asked === null ? (picture === undefined ? session.keptFrom : end) : Number(asked);
    this.#tell(
      JSON.stringify({
        type: "session_info",
        session_id: "7",
        tty: session.tty,
        ...(session.counts ? { offset: this.#position, input_offset: session.input.length } : {}),
        ...(picture === undefined ? {} : { screen_bytes: picture.length }),
      }),
    );
    if (picture !== undefined) this.#tell(Buffer.from(picture));
    if (this.#position < session.keptFrom) {
      this.#tell(JSON.stringify({ type: "output_gap", from: this.#position, to: session.keptFrom }));
      this.#position = session.keptFrom;
    }
    this.more();
  }

  #refuse(status: number): void {
    const listeners: Record<string, (data?: Uint8Array) => void> = {};
    this.#onRefusal?.(
      { destroy: () => this.cut() },
      { statusCode: status, on: (event: string, listener: () => void) => (listeners[event] = listener) },
    );
    listeners["end"]?.();
  }

  #tell(data: unknown): void {
    if (this.readyState === 1 && this.#spend()) this.onmessage?.({ data });
  }

  /** False when the connection is cut with this message. */
  #spend(): boolean {
    this.#budget -= 1;
    if (this.#budget >= 0) return true;
    this.cut();
    return false;
  }
}

interface Client {
  connection: LastingConnection;
  out: () => string;
  err: () => string;
  events: string[];
}

let opened: LastingConnection[] = [];
afterEach(() => {
  for (const connection of opened) connection.detach();
  opened = [];
});

async function openClient(session: FakeSession, options: Partial<LastingOptions> = {}, attach?: string): Promise<Client> {
  const events: string[] = [];
  const seen = { stdout: "", stderr: "" };
  const handlers: LastingHandlers = {
    output: (stream, data) => void (seen[stream] += Buffer.from(data).toString("latin1")),
    lost: () => events.push("lost"),
    back: ({ redrawn }) => events.push(redrawn ? "back, redrawn" : "back"),
    missing: (bytes) => events.push(`missing ${bytes}`),
  };
  const connection = await openLastingExec(
    { baseUrl: "http://h", token: "t", sprite: "s", openSocket: session.open },
    attach === undefined
      ? { kind: "command", argv: ["x"], stdin: true, tty: session.tty ? { cols: 80, rows: 24 } : undefined }
      : { kind: "attach", sessionId: attach },
    handlers,
    { reconnectForMs: 5000, chance: () => 0, ...options },
  );
  opened.push(connection);
  return { connection, events, out: () => seen.stdout, err: () => seen.stderr };
}

const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));

describe("a command over connections that end", () => {
  test("[REC-1] output goes on at the right byte, the exit code is the command's", async () => {
    const session = new FakeSession();
    const client = await openClient(session);
    session.print("one ");
    session.print("err ", "stderr");
    session.sockets[0]?.cut();
    session.print("two");
    await settle();
    session.exit(3);
    expect(await client.connection.ended).toBe(3);
    expect([client.out(), client.err(), client.events]).toEqual(["one two", "err ", ["lost", "back"]]);
    expect(session.urls.map((url) => url.pathname + url.searchParams.get("offset"))).toEqual([
      "/v1/sprites/s/execnull",
      "/v1/sprites/s/exec/78",
    ]);
  });

  test("[REC-1][REC-2] at any cuts, output and input arrive once and in order", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 12 }), { maxLength: 15 }),
        fc.array(fc.tuple(fc.constantFrom("print", "write"), fc.string({ minLength: 1, maxLength: 8, unit: "binary-ascii" })), {
          maxLength: 25,
        }),
        async (budgets, steps) => {
          const session = new FakeSession();
          session.budgets = [Math.max(2, budgets[0] ?? 2), ...budgets.slice(1).map((budget) => budget + 1)];
          const client = await openClient(session, { reconnectForMs: 60_000 });
          let [printed, written] = ["", ""];
          for (const [kind, text] of steps) {
            if (kind === "print") {
              printed += text;
              session.print(text);
            } else {
              written += text;
              await client.connection.write(Buffer.from(text));
            }
            if (text.length > 4) await new Promise((resolve) => setImmediate(resolve));
          }
          client.connection.endInput();
          while (!session.inputEnded) await new Promise((resolve) => setTimeout(resolve, 1));
          session.exit(9);
          expect(await client.connection.ended).toBe(9);
          expect([client.out(), session.input]).toEqual([printed, written]);
        },
      ),
      { numRuns: 60 },
    );
  }, 60_000);

  test("[REC-2] input that the server has is kept until it is safe: a server that forgets it gets it again", async () => {
    const session = new FakeSession();
    session.acknowledges = false;
    const client = await openClient(session);
    await client.connection.write(Buffer.from("abcdef"));
    await settle();
    session.sockets[0]?.cut(); // comes back to a server that has all of it
    while (!client.connection.isConnected || session.sockets.length < 2) await settle();
    expect(session.input).toBe("abcdef");
    session.input = "ab"; // killed: what it held is gone
    session.sockets[1]?.cut();
    while (session.input.length < 6) await settle();
    expect(session.input).toBe("abcdef");
  });

  test("[REC-2] a server that has less than it said was safe ends the connection: the rest cannot be sent once", async () => {
    const session = new FakeSession();
    const client = await openClient(session);
    await client.connection.write(Buffer.from("abcdef"));
    await settle();
    session.input = "";
    session.sockets[0]?.cut();
    await expect(client.connection.ended).rejects.toMatchObject({ code: "session_gone" });
  });

  test("[REC-3][REC-11] a start whose answer was cut off is repeated under its key, where only servers answer that know it", async () => {
    const session = new FakeSession();
    session.budgets = [0];
    const client = await openClient(session);
    session.print("once");
    session.exit(4);
    expect(await client.connection.ended).toBe(4);
    expect([client.out(), client.events]).toEqual(["once", []]);
    expect(session.urls.map(({ pathname }) => pathname)).toEqual(["/v1/sprites/s/exec", "/v1/sprites/s/exec/start"]);
    const keys = session.urls.map(({ searchParams }) => searchParams.get("start_key"));
    expect([keys[0]?.length, keys[1]]).toEqual([36, keys[0]]);
  });

  test("[REC-11] losses of a start that go on are told once; its time is bounded", async () => {
    const session = new FakeSession();
    session.budgets = [0, 0, 0];
    const client = await openClient(session);
    expect(client.events).toEqual(["lost", "back"]);
    const other = new FakeSession();
    other.budgets = Array.from({ length: 100 }, () => 0);
    await expect(openClient(other, { reconnectForMs: 150 })).rejects.toMatchObject({ code: "gave_up" });
  });

  test.each([404, 405, 501])(
    "[REC-3] a server that knows no keys (%d) starts nothing twice: the first loss is the answer",
    async (status) => {
      const session = new FakeSession();
      session.budgets = [0];
      session.refusals = [undefined, status];
      await expect(openClient(session)).rejects.toMatchObject({ name: "ConnectionError", code: "closed" });
      expect(session.urls.map(({ pathname }) => pathname)).toEqual(["/v1/sprites/s/exec", "/v1/sprites/s/exec/start"]);
    },
  );

  test("[REC-3] without time to reconnect nothing is repeated", async () => {
    const session = new FakeSession();
    session.budgets = [0];
    await expect(openClient(session, { reconnectForMs: 0 })).rejects.toMatchObject({ code: "closed" });
    expect(session.urls.map(({ searchParams }) => searchParams.get("start_key"))).toEqual([null]);
  });

  test("[REC-4] unacknowledged input is bounded: then the writer waits, and goes on", async () => {
    const session = new FakeSession();
    const client = await openClient(session);
    session.sockets[0]?.cut();
    session.refusals = [503, 503];
    let done = false;
    const writing = client.connection.write(Buffer.alloc(1024 * 1024 + 1)).then(() => (done = true));
    await settle();
    expect(done).toBe(false);
    await writing;
    expect(session.input).toHaveLength(1024 * 1024 + 1);
  });

  test("[REC-5] a session that the server does not know ends it, with a code of its own", async () => {
    const session = new FakeSession();
    const client = await openClient(session);
    session.refusals = [404];
    session.sockets[0]?.cut();
    await expect(client.connection.ended).rejects.toMatchObject({ name: "ConnectionError", code: "session_gone" });
    expect(client.connection.isConnected).toBe(false);
  });

  test("[REC-5] so does a refusal that waiting does not cure; others are tried again", async () => {
    const session = new FakeSession();
    const client = await openClient(session);
    session.refusals = [503, 500, 401];
    session.sockets[0]?.cut();
    await expect(client.connection.ended).rejects.toMatchObject({ status: 401 });
    expect(session.sockets).toHaveLength(4);
  });

  test("[REC-6] it gives up when the time is up", async () => {
    const session = new FakeSession();
    const client = await openClient(session, { reconnectForMs: 60 });
    session.refusals = Array.from({ length: 100 }, () => 503);
    session.sockets[0]?.cut();
    await expect(client.connection.ended).rejects.toMatchObject({ code: "gave_up" });
    expect(client.events).toEqual(["lost"]);
  });

  test("[REC-6] connections that bring something begin the time anew, others do not", async () => {
    const session = new FakeSession();
    const client = await openClient(session, { reconnectForMs: 300 });
    for (let round = 0; round < 8; round++) {
      session.sockets.at(-1)?.cut();
      await new Promise((resolve) => setTimeout(resolve, 60)); // the first attempt follows at once
      if (round % 2 === 0) session.print("x");
      else await client.connection.write(Buffer.from("y"));
    }
    expect([client.out(), session.input, client.connection.isConnected]).toEqual(["xxxx", "yyyy", true]);
    session.budgets = Array.from({ length: 100 }, () => 1);
    session.sockets.at(-1)?.cut();
    session.print("z"); // never arrives: each connection is cut after its first message
    await expect(client.connection.ended).rejects.toMatchObject({ code: "gave_up" });
  });

  test("[REC-7] output that the server no longer has is told once, with its length", async () => {
    const session = new FakeSession();
    const client = await openClient(session);
    session.print("abc");
    session.sockets[0]?.cut();
    session.print("defghi");
    session.keptFrom = 7;
    await settle();
    session.exit(0);
    await client.connection.ended;
    expect([client.out(), client.events]).toEqual(["abchi", ["lost", "back", "missing 4"]]);
  });

  test("[REC-8] a terminal lost for long is drawn anew; what is drawn counts in no position", async () => {
    const session = new FakeSession();
    session.tty = true;
    session.picture = "PICTURE";
    const client = await openClient(session, { redrawAfterMs: 20 });
    session.print("abc");
    client.connection.resize({ cols: 100, rows: 30 });
    session.refusals = [503, 503];
    session.sockets[0]?.cut();
    session.print("missed");
    while (session.sockets.length < 4) await settle();
    await settle();
    expect(session.sizes).toEqual([
      [100, 30],
      [100, 30],
    ]);
    session.print("live");
    expect([client.out(), client.events]).toEqual(["abcPICTURElive", ["lost", "back, redrawn"]]);
    session.sockets.at(-1)?.cut();
    await settle();
    expect(session.urls.at(-1)?.searchParams.get("offset")).toBe("13");
    session.exit(0);
    expect(await client.connection.ended).toBe(0);
    expect(client.out()).toBe("abcPICTURElive");
  });

  test("[REC-9] a server that does not count gives a connection that ends with its loss", async () => {
    const session = new FakeSession();
    session.counts = false;
    const client = await openClient(session);
    await client.connection.write(Buffer.from("x"));
    session.sockets[0]?.cut();
    await expect(client.connection.ended).rejects.toMatchObject({ code: "closed" });
    expect([session.input, session.sockets.length]).toEqual(["x", 1]);
  });

  test("[REC-10] leaving while the connection is lost ends every attempt", async () => {
    const session = new FakeSession();
    const client = await openClient(session);
    session.refusals = Array.from({ length: 100 }, () => 503);
    session.sockets[0]?.cut();
    await settle();
    client.connection.detach();
    await expect(client.connection.ended).rejects.toMatchObject({ code: "closed" });
    const attempts = session.sockets.length;
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(session.sockets.length).toBe(attempts);
  });

  test("[REC-1] an attachment goes on where its session was", async () => {
    const session = new FakeSession();
    session.print("before ");
    session.input = "typed";
    const client = await openClient(session, {}, "7");
    await client.connection.write(Buffer.from("more"));
    session.sockets[0]?.cut();
    session.print("after");
    await settle();
    session.exit(0);
    await client.connection.ended;
    expect([client.out(), session.input]).toEqual(["before after", "typedmore"]);
  });
});

describe("an opener of one's own", () => {
  test("[REC-11] a start is repeated after a cut, not after an answer that is none of this API", async () => {
    for (const [code, requests] of [
      ["closed", 2],
      ["bad_answer", 1],
    ] as const) {
      const asked: ExecWhat[] = [];
      const openConnection: typeof openExec = async (_, what) => {
        asked.push(what);
        throw asked.length === 1 ? new ConnectionError(code, "first") : new ApiError("sprite_not_found", "second");
      };
      const opened = openLastingExec(
        { baseUrl: "http://h", token: "t", sprite: "box", openConnection },
        { kind: "command", argv: ["true"], stdin: false },
        { output: () => {} },
        { reconnectForMs: 1000, chance: () => 0 },
      );
      await expect(opened).rejects.toThrow(requests === 1 ? "first" : "second");
      expect(asked.map((what) => what.kind === "command" && what.isRepeated)).toEqual([undefined, true].slice(0, requests));
    }
  });
});

describe("InputKeeper", () => {
  test("[REC-2] keeps exactly what is not acknowledged", () => {
    fc.assert(
      fc.property(
        fc.nat({ max: 1000 }),
        fc.array(fc.oneof(fc.uint8Array({ maxLength: 20 }), fc.nat({ max: 30 })), { maxLength: 30 }),
        (start, steps) => {
          const keeper = new InputKeeper(start);
          const all: number[] = [];
          let acknowledged = start;
          for (const step of steps) {
            if (typeof step === "number") {
              acknowledged = Math.max(acknowledged, Math.min(start + all.length, acknowledged + step));
              keeper.acknowledge(acknowledged);
              keeper.acknowledge(start); // an old one changes nothing
            } else {
              keeper.append(step);
              all.push(...step);
            }
            const rest: number[] = [];
            for (let at = keeper.start; ;) {
              const piece = keeper.from(at);
              if (!piece) break;
              rest.push(...piece);
              at += piece.length;
            }
            expect(rest).toEqual(all.slice(acknowledged - start));
            expect([keeper.start, keeper.end, keeper.bytes]).toEqual([acknowledged, start + all.length, rest.length]);
          }
        },
      ),
    );
  });
});

describe("back-off", () => {
  test("[REC-6] at once, then pauses that double up to 5 s, by chance up to half shorter", () => {
    expect([0, 1, 2, 3].map((attempt) => pauseBefore(attempt, 1))).toEqual([0, 100, 200, 400]);
    expect([1, 2].map((attempt) => pauseBefore(attempt, 0))).toEqual([50, 100]);
    expect(pauseBefore(1000, 1)).toBe(5000);
  });
});
