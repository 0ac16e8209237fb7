/** What the words of `sprite proxy` mean. Pure. */
import { CliError, EXIT_USAGE } from "../output/cli-error.ts";

/** A local port that leads to a port in the sprite. */
export interface PortMapping {
  localPort: number;
  remotePort: number;
  /** As seen from the sprite. */
  remoteHost: string;
}

/** `8080`, `3000:8080` or `3000:db.internal:5432`. Throws `CliError`. */
export function parseMapping(text: string): PortMapping {
  const match = /^(?:(\d+):)?(?:(\[[^\]]+\]|[^:[\]]+):)?(\d+)$/.exec(text);
  const [, local, host, remote] = match ?? [];
  const remotePort = portOf(remote);
  const localPort = local === undefined ? remotePort : portOf(local);
  if (remotePort === undefined || localPort === undefined || (host !== undefined && local === undefined)) {
    throw new CliError(`${JSON.stringify(text)} is not a port mapping.`, {
      hint: "Write PORT, LOCAL:REMOTE or LOCAL:HOST:REMOTE, each port from 1 to 65535.",
      exitCode: EXIT_USAGE,
      code: "usage",
    });
  }
  return { localPort, remotePort, remoteHost: plainHost(host) };
}

/** Where `-W` leads: `host:port` or `:port`. Throws `CliError`. */
export function parseDestination(text: string): { host: string; port: number } {
  const [, host, digits] = /^(\[[^\]]+\]|[^:[\]]*):?(?<=:|^)(\d+)$/.exec(text) ?? [];
  const port = portOf(digits);
  if (port !== undefined) return { host: plainHost(host), port };
  throw new CliError(`${JSON.stringify(text)} is not a place in the sprite.`, {
    hint: "Write HOST:PORT or :PORT; in ssh's ProxyCommand `%h:%p`.",
    exitCode: EXIT_USAGE,
    code: "usage",
  });
}

/** How a mapping is shown: `localhost:3000 → dev:8080`. */
export function mappingText(sprite: string, { localPort, remotePort, remoteHost }: PortMapping): string {
  const there = remoteHost === "localhost" ? `${sprite}:${remotePort}` : `${remoteHost}:${remotePort} in ${sprite}`;
  return `localhost:${localPort} → ${there}`;
}

function plainHost(host: string | undefined): string {
  return host === undefined || host === "" ? "localhost" : host.replace(/^\[|\]$/g, "");
}

function portOf(digits: string | undefined): number | undefined {
  const port = Number(digits);
  return digits !== undefined && port >= 1 && port <= 65_535 ? port : undefined;
}
