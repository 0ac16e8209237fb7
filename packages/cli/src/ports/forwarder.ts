/**
 * Forwards every port that is opened in a sprite while a command runs to the same port of this
 * computer (PORT-5).
 *
 * Invariants: ports that were open before are left alone; a local port that is taken is answered
 * with the next free one; nothing here ends or delays the command, and its connections are closed
 * with it.
 */
import { watchPorts, type WatchedPort } from "@sprited/protocol/client/port-watch";
import { CliError } from "../output/cli-error.ts";
import type { Target } from "../settings/load.ts";
import { type LocalPort, openLocalPort } from "./local-port.ts";
import { mappingText, type PortMapping } from "./mapping.ts";
import { openWebSocket } from "./web-socket.ts";

/** Local ports that are tried after a busy one. */
const NEXT_PORTS_MAX = 20;
/** Ports that are forwarded at once. */
const FORWARDED_MAX = 100;

export interface ForwarderOptions {
  /** Shows a line without disturbing the command's output. */
  say(line: string): void;
  /** Opens a local port; for tests. */
  open?: (target: Target, mapping: PortMapping) => Promise<AsyncDisposable>;
}

/** Begins to watch and forward. Never throws: a sprite whose ports cannot be watched is one without forwards. */
export function forwardNewPorts(target: Target, options: ForwarderOptions): AsyncDisposable {
  const over = new AbortController();
  const forwarder = new Forwarder(target, options);
  const { apiUrl, token } = target.server;
  const watching = watchPorts(
    { baseUrl: apiUrl, token, sprite: target.sprite, openSocket: openWebSocket },
    {
      listed: (ports) => forwarder.listed(ports),
      opened: (port) => forwarder.opened(port),
      closed: (port) => forwarder.closed(port),
    },
    { signal: over.signal },
  ).then(
    () => {},
    () => {}, // a server without this call: nothing is forwarded
  );
  return {
    async [Symbol.asyncDispose]() {
      over.abort();
      await watching;
      await forwarder[Symbol.asyncDispose]();
    },
  };
}

/** The part without network: decides what is forwarded. */
export class Forwarder implements AsyncDisposable {
  readonly #target: Target;
  readonly #options: ForwarderOptions;
  /** Listening addresses by port, and whether the port was open before. */
  readonly #known = new Map<number, Set<string>>();
  #isListed = false;
  readonly #forwards = new Map<number, Promise<AsyncDisposable | undefined>>();

  constructor(target: Target, options: ForwarderOptions) {
    this.#target = target;
    this.#options = options;
  }

  /** The whole list: the first one is what was there before, a later one follows a lost connection. */
  listed(ports: readonly WatchedPort[]): void {
    if (!this.#isListed) {
      this.#isListed = true;
      for (const { port, address } of ports) this.#addressesOf(port).add(address);
      return;
    }
    const now = new Set(ports.map(({ port, address }) => `${port} ${address}`));
    for (const [port, addresses] of this.#known)
      for (const address of addresses) if (!now.has(`${port} ${address}`)) this.closed({ port, address, pid: 0 });
    for (const port of ports) this.opened(port);
  }

  opened({ port, address }: WatchedPort): void {
    const addresses = this.#addressesOf(port);
    const isNew = addresses.size === 0;
    addresses.add(address);
    if (isNew && !this.#forwards.has(port) && this.#forwards.size < FORWARDED_MAX) this.#forwards.set(port, this.#forward(port, address));
  }

  closed({ port, address }: WatchedPort): void {
    const addresses = this.#known.get(port);
    if (!addresses?.delete(address) || addresses.size > 0) return;
    this.#known.delete(port);
    const forward = this.#forwards.get(port);
    this.#forwards.delete(port);
    void forward?.then((opened) => opened?.[Symbol.asyncDispose]());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const forwards = [...this.#forwards.values()];
    this.#forwards.clear();
    await Promise.all(forwards.map(async (forward) => await (await forward)?.[Symbol.asyncDispose]()));
  }

  #addressesOf(port: number): Set<string> {
    let addresses = this.#known.get(port);
    if (!addresses) this.#known.set(port, (addresses = new Set()));
    return addresses;
  }

  async #forward(port: number, address: string): Promise<AsyncDisposable | undefined> {
    const open = this.#options.open ?? openQuietly;
    const remoteHost = isLoopbackOrAny(address) ? "localhost" : address;
    for (const localPort of candidates(port)) {
      const mapping = { localPort, remotePort: port, remoteHost };
      try {
        const opened = await open(this.#target, mapping);
        const why = localPort === port ? "" : ` (${port} cannot be used here)`;
        this.#options.say(`sprite: ${mappingText(this.#target.sprite, mapping)}${why}`);
        return opened;
      } catch (error) {
        if (!(error instanceof CliError)) throw error;
      }
    }
    this.#options.say(`sprite: port ${port} of ${this.#target.sprite} is not forwarded: no port near it is free here`);
    return undefined;
  }
}

/** Local ports for a port, best first. Those below 1024 are for root on many systems: there are others above. */
function candidates(port: number): number[] {
  const from = (first: number): number[] => Array.from({ length: NEXT_PORTS_MAX }, (_, index) => first + index);
  return (port < 1024 ? [port, ...from(port + 8000)] : from(port)).filter((candidate) => candidate <= 65_535);
}

/** A failed connection of a forward is the local program's business: it sees it closed. */
async function openQuietly(target: Target, mapping: PortMapping): Promise<LocalPort> {
  return await openLocalPort(target, mapping, { failed: () => {} });
}

function isLoopbackOrAny(address: string): boolean {
  return ["0.0.0.0", "::", "::1"].includes(address) || address.startsWith("127.");
}
