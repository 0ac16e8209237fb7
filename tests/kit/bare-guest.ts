/** A real agent in this process with a real daemon's end: boot port and link over loopback sockets. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import net from "node:net";
import type { Duplex } from "node:stream";
import { type BareAgent, startBareAgent } from "@sprited/agent/bare";
import { Scope } from "@sprited/base";
import { type Bootstrap, GUEST_GENERATION } from "@sprited/protocol/guest";
import { bootstrapGuest, type GuestCarrier, type GuestLink, openLink } from "@sprited/daemon";

/** One session stream as the daemon has it. */
export type SessionStream = Awaited<ReturnType<GuestLink["startSession"]>>;

/** How long a step of a test may take, ms. */
export const STEP_TIMEOUT_MS = 15_000;

export interface BareGuest extends AsyncDisposable {
  carrier: GuestCarrier;
  key: { incarnation: string; key: Uint8Array };
  bootstrap(changes?: Partial<Bootstrap>): Bootstrap;
  /** Bootstraps and opens a link at the same time, as the daemon does. */
  link(): Promise<GuestLink>;
}

/** Both ends of a loopback connection. */
export async function socketPair(): Promise<[net.Socket, net.Socket]> {
  const server = net.createServer({ noDelay: true });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = net.connect({ port: (server.address() as net.AddressInfo).port, host: "127.0.0.1", noDelay: true });
  const [accepted] = (await once(server, "connection")) as [net.Socket];
  server.close();
  return [client, accepted];
}

export function newKey(): BareGuest["key"] {
  return { incarnation: randomBytes(6).toString("hex"), key: randomBytes(32) };
}

export function bootstrapFor(key: BareGuest["key"], changes: Partial<Bootstrap> = {}): Bootstrap {
  return {
    type: "bootstrap",
    generation: GUEST_GENERATION,
    incarnation: key.incarnation,
    key: Buffer.from(key.key).toString("base64"),
    time_ms: Date.now(),
    entropy: randomBytes(64).toString("base64"),
    identity: { hostname: "test", machine_id: randomBytes(16).toString("hex"), renew: true },
    environment: { SPRITE_VARIABLE: "from the sprite" },
    root_serial: "sprite",
    ...changes,
  };
}

/** Starts an agent. `serial` puts the link on a port instead of TCP. */
export async function startBareGuest(options: { serial?: boolean } = {}): Promise<BareGuest> {
  await using scope = new Scope("bare guest");
  const boot = await RelayedPort.open();
  const link = await RelayedPort.open();
  scope.defer("ports", () => {
    boot.close();
    link.close();
  });
  const agent: BareAgent = await startBareAgent({ bootPort: boot.guestEnd, linkPort: link.guestEnd });
  scope.use("agent", agent);
  const key = newKey();
  const carrier: GuestCarrier = {
    openBootPort: () => boot.connect(),
    link: options.serial === true ? { kind: "serial", open: () => link.connect() } : { kind: "tcp", ...agent.address },
  };
  const owned = scope.move();
  return {
    carrier,
    key,
    bootstrap: (changes) => bootstrapFor(key, changes),
    link: async () => {
      const opening = openLink(carrier, key, { timeoutMs: STEP_TIMEOUT_MS });
      opening.catch(() => {});
      await bootstrapGuest(carrier, bootstrapFor(key), { timeoutMs: STEP_TIMEOUT_MS });
      return await opening;
    },
    [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
  };
}

/** A serial port: the guest's end stays, the host's end comes and goes. */
class RelayedPort {
  readonly guestEnd: Duplex;
  readonly #inner: net.Socket;
  readonly #server: net.Server;
  #host: net.Socket | undefined;

  private constructor(guestEnd: net.Socket, inner: net.Socket, server: net.Server) {
    this.guestEnd = guestEnd;
    this.#inner = inner;
    this.#server = server;
    inner.pause();
    inner.on("error", () => {});
    server.on("connection", (socket: net.Socket) => {
      if (this.#host) {
        inner.unpipe(this.#host);
        this.#host.destroy();
      }
      this.#host = socket;
      socket.on("error", () => {});
      socket.pipe(inner, { end: false });
      inner.pipe(socket, { end: false });
      socket.once("close", () => {
        if (this.#host !== socket) return;
        inner.unpipe(socket);
        inner.pause();
      });
    });
  }

  static async open(): Promise<RelayedPort> {
    const [guestEnd, inner] = await socketPair();
    const server = net.createServer({ noDelay: true });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new RelayedPort(guestEnd, inner, server);
  }

  async connect(): Promise<net.Socket> {
    const socket = net.connect({ port: (this.#server.address() as net.AddressInfo).port, host: "127.0.0.1", noDelay: true });
    await once(socket, "connect");
    return socket;
  }

  close(): void {
    this.#host?.destroy();
    this.#inner.destroy();
    this.#server.close();
  }
}

export interface Ran {
  stdout: Buffer;
  stderr: Buffer;
  exit: { code: number | null; signal: string | null } | undefined;
  failed: { code: string; message: string } | undefined;
}

/** Reads a stream to its end, acknowledging everything. */
export async function readAll(stream: SessionStream, into: Ran = emptyRan()): Promise<Ran> {
  const parts = { stdout: [into.stdout], stderr: [into.stderr] };
  const offsets = { stdout: into.stdout.length, stderr: into.stderr.length };
  try {
    for await (const event of stream.events) {
      if (event.type === "output") {
        parts[event.stream].push(Buffer.from(event.data));
        offsets[event.stream] += event.data.length;
        stream.acknowledge(offsets);
      } else if (event.type === "exit") into.exit = event.exit;
      else if (event.type === "failed") into.failed = { code: event.code, message: event.message };
    }
  } finally {
    into.stdout = Buffer.concat(parts.stdout);
    into.stderr = Buffer.concat(parts.stderr);
  }
  return into;
}

export function emptyRan(): Ran {
  return { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0), exit: undefined, failed: undefined };
}

let lastId = 0;
export function nextId(): string {
  lastId += 1;
  return String(lastId);
}

/** Runs a command to its end. */
export async function runCommand(
  link: GuestLink,
  argv: string[],
  changes: Partial<Parameters<GuestLink["startSession"]>[1]> = {},
): Promise<Ran> {
  const stream = await link.startSession(nextId(), { argv, env: {}, dir: null, tty: null, stdin: false, ...changes });
  return await readAll(stream);
}
