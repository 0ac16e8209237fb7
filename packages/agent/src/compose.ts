/** Puts an agent together from its parts; the same for a VM, a bare host and the rehearsal. */
import type { Duplex } from "node:stream";
import { BootProtocol } from "./boot/bootstrap.ts";
import { SerialLink } from "./boot/serial-link.ts";
import { FileWorkers } from "./fs/workers.ts";
import { LinkServer } from "./link/link-server.ts";
import { AgentService, type Environment } from "./service.ts";
import { SessionRegistry } from "./session/registry.ts";
import type { ProcessTable } from "./spawn/process-table.ts";
import { type Enclosure, Spawner } from "./spawn/spawner.ts";
import type { Machine } from "./sys/machine.ts";
import { AGENT_VERSION } from "./version.ts";

export interface AgentParts {
  processes: ProcessTable;
  enclosure: Enclosure;
  /** Made with the sessions that run in it. */
  environment: Environment | ((sessions: SessionRegistry) => Environment);
  machine: Machine;
  bootPort: Duplex;
  linkPort: Duplex | undefined;
}

export interface Agent {
  readonly boot: BootProtocol;
  readonly links: LinkServer;
  readonly sessions: SessionRegistry;
  readonly files: FileWorkers;
}

export function composeAgent(parts: AgentParts): Agent {
  const spawner = new Spawner(parts.enclosure);
  const sessions = new SessionRegistry(parts.processes);
  const environment = typeof parts.environment === "function" ? parts.environment(sessions) : parts.environment;
  const files = new FileWorkers(environment.files, () => parts.enclosure.user());
  const service = new AgentService({ agentVersion: AGENT_VERSION, sessions, environment, machine: parts.machine, spawner, files });
  const links = new LinkServer(service);
  const boot = new BootProtocol({
    port: parts.bootPort,
    agentVersion: AGENT_VERSION,
    machine: parts.machine,
    links,
    serialLink: parts.linkPort && new SerialLink(parts.linkPort, (carrier) => links.serve(carrier)),
    dropInherited: (bootstrap) => environment.dropInherited(bootstrap),
    onBootstrap: (bootstrap) => service.bootstrap(bootstrap),
  });
  return { boot, links, sessions, files };
}
