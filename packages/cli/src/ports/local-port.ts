/**
 * A local port whose every connection leads into a sprite. It listens on the loopback addresses
 * only, IPv4 and, where there is one, IPv6.
 */
import { once } from "node:events";
import net from "node:net";
import type { Target } from "../settings/load.ts";
import { CliError } from "../output/cli-error.ts";
import type { PortMapping } from "./mapping.ts";
import { endsOf, relay, type RelayEvents } from "./relay.ts";

export interface LocalPortEvents extends RelayEvents {
  /** A connection failed; told once for each. */
  failed(error: unknown, mapping: PortMapping): void;
}

export interface LocalPort extends AsyncDisposable {
  readonly mapping: PortMapping;
}

/** Begins to listen. Throws `CliError` `port_busy` or `port_forbidden`. */
export async function openLocalPort(target: Target, mapping: PortMapping, events: LocalPortEvents): Promise<LocalPort> {
  const over = new AbortController();
  const sockets = new Set<net.Socket>();
  const serve = (socket: net.Socket): void => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    socket.on("error", () => {}); // the relay ends with it
    relay(target, { host: mapping.remoteHost, port: mapping.remotePort }, endsOf(socket), { ...events, signal: over.signal }).catch(
      (error: unknown) => {
        if (!over.signal.aborted) events.failed(error, mapping);
      },
    );
  };
  const servers = [await listen("127.0.0.1", mapping.localPort, serve)];
  try {
    servers.push(await listen("::1", mapping.localPort, serve));
  } catch (error) {
    // Without IPv6 the one address is enough; a port that is half taken is not.
    if (error instanceof CliError && error.code === "port_busy") {
      for (const server of servers) server.close();
      throw error;
    }
  }
  return {
    mapping,
    async [Symbol.asyncDispose]() {
      over.abort();
      for (const socket of sockets) socket.destroy();
      await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
    },
  };
}

async function listen(host: string, port: number, serve: (socket: net.Socket) => void): Promise<net.Server> {
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, serve);
  server.listen(port, host);
  try {
    await once(server, "listening");
  } catch (cause) {
    throw listenError(cause as NodeJS.ErrnoException, port);
  }
  return server;
}

function listenError(cause: NodeJS.ErrnoException, port: number): CliError {
  if (cause.code === "EADDRINUSE")
    return new CliError(`Port ${port} of this computer is in use by another program.`, {
      hint: `Choose another local port: \`sprite proxy ${port === 65_535 ? port - 1 : port + 1}:${port}\`.`,
      code: "port_busy",
      cause,
    });
  if (cause.code === "EACCES")
    return new CliError(`You may not listen on port ${port} of this computer.`, {
      hint: `Choose a local port above 1023: \`sprite proxy ${port < 1024 ? port + 8000 : port}:${port}\`.`,
      code: "port_forbidden",
      cause,
    });
  return new CliError(`Port ${port} of this computer cannot be listened on.`, { code: "port_unusable", cause });
}
