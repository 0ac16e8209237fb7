/**
 * A real agent without a VM: commands run directly as the user of this process. For tests and for
 * the simulated VMM; it isolates nothing.
 */
import fs from "node:fs";
import net from "node:net";
import type { AddressInfo } from "node:net";
import os from "node:os";
import type { Duplex } from "node:stream";
import { Scope } from "@sprited/base";
import { composeAgent } from "./compose.ts";
import { FileRoot } from "./fs/root.ts";
import type { Environment } from "./service.ts";
import type { SessionRegistry } from "./session/registry.ts";
import { HOST_SHELL } from "./spawn/launch.ts";
import { ProcessTable } from "./spawn/process-table.ts";
import type { Enclosure } from "./spawn/spawner.ts";
import type { User } from "./spawn/user.ts";
import { bareMachine } from "./sys/machine.ts";

export interface BareAgentOptions {
  /** The agent's end of the boot port. */
  bootPort: Duplex;
  /** The agent's end of the serial link; left out where the link goes over TCP alone. */
  linkPort?: Duplex | undefined;
  /** Home and default working directory of commands. Default: a system directory for temporary files. */
  home?: string | undefined;
  /** Directory that is `/` for file calls. Default: the one of this host. */
  fileRoot?: string | undefined;
}

export interface BareAgent extends AsyncDisposable {
  /** Loopback address of the link's listener. */
  readonly address: { host: string; port: number };
  /** Serves one link over any carrier. */
  serve(carrier: Duplex): void;
  /** Stops every command, as the vCPUs of a paused VM would, or lets them go on. */
  setStopped(isStopped: boolean): void;
}

/** Starts an agent in this process and announces `idle`. Disposing it kills its sessions. */
export async function startBareAgent(options: BareAgentOptions): Promise<BareAgent> {
  await using scope = new Scope("bare agent");
  const processes = new ProcessTable();
  scope.defer("process table", () => processes.close());
  const fileRoot = new FileRoot();
  fileRoot.enter(fs.openSync(options.fileRoot ?? "/", fs.constants.O_RDONLY | fs.constants.O_DIRECTORY));
  const { boot, links, sessions, files } = composeAgent({
    processes,
    enclosure: bareEnclosure(processes, options.home ?? os.tmpdir()),
    environment: (all) => new BareEnvironment(all, fileRoot),
    machine: bareMachine,
    bootPort: options.bootPort,
    linkPort: options.linkPort,
  });
  scope.defer("file workers", async () => {
    await fileRoot.leave();
    await files.close();
  });
  scope.defer("sessions", () => sessions.clear());
  scope.defer("links", () => links.closeLinks());
  const listener = net.createServer({ noDelay: true }, (socket) => links.serve(socket));
  await new Promise<void>((resolve, reject) => {
    listener.once("error", reject);
    listener.listen(0, "127.0.0.1", resolve);
  });
  scope.defer("listener", () => void listener.close());
  boot.announceIdle();
  const owned = scope.move();
  return {
    address: { host: "127.0.0.1", port: (listener.address() as AddressInfo).port },
    serve: (carrier) => links.serve(carrier),
    setStopped: (isStopped) => {
      for (const { pid, exit } of sessions.list()) {
        if (pid !== null && exit === null)
          processes.signalSession(pid, isStopped ? os.constants.signals.SIGSTOP : os.constants.signals.SIGCONT);
      }
    },
    [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
  };
}

function bareEnclosure(processes: ProcessTable, home: string): Enclosure {
  const info = os.userInfo();
  const user: User = { name: info.username, uid: info.uid, gid: info.gid, groups: [], home, shell: info.shell ?? "/bin/sh", variables: {} };
  return {
    shell: HOST_SHELL,
    user: () => user,
    spawn: (_user, request) => {
      const child = processes.spawn(request);
      return { ...child, killAll: () => processes.killSession(child.pid) };
    },
    innerPid: (pid) => pid,
    network: { inside: (work) => work(), viewPid: () => process.pid, owns: isDescendant },
  };
}

/** Whether a process was started by this one or by what this one started. */
function isDescendant(pid: number): boolean {
  for (let at = pid; at > 1;) {
    const parent = parentOf(at);
    if (parent === process.pid) return true;
    at = parent;
  }
  return false;
}

/** 0 when the process has gone. */
function parentOf(pid: number): number {
  try {
    return Number(/^PPid:\s+(\d+)$/m.exec(fs.readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
  } catch {
    return 0; // what has gone has no parent
  }
}

/** Always there, until it is stopped. */
class BareEnvironment implements Environment {
  readonly files: FileRoot;
  readonly #sessions: SessionRegistry;
  #starts = 0;
  /** When a freeze would end by itself; the host's own file system is never frozen. */
  #frozenUntilMs: number | undefined;

  constructor(sessions: SessionRegistry, files: FileRoot) {
    this.files = files;
    this.#sessions = sessions;
  }

  get status(): Environment["status"] {
    return { inner: this.#starts > 0 ? "running" : "absent", inner_error: null, inner_starts: this.#starts };
  }

  /** Its connections are those of the host. */
  dropInherited(): void {}

  bootstrap(): void {
    this.#starts = Math.max(1, this.#starts);
  }

  async ready(): Promise<void> {}

  async stop(): Promise<void> {
    for (const { id, exit } of this.#sessions.list()) if (exit === null) this.#sessions.find(id)?.kill();
  }

  async sync(): Promise<void> {
    await fs.promises.access("/");
  }

  /** Its machine stops the processes, see `BareAgent.setStopped`. */
  async rest(): Promise<void> {}

  async freeze(timeoutMs: number): Promise<void> {
    this.#frozenUntilMs = performance.now() + timeoutMs;
  }

  async thaw(): Promise<{ held: boolean }> {
    const held = this.#frozenUntilMs !== undefined && performance.now() < this.#frozenUntilMs;
    this.#frozenUntilMs = undefined;
    return { held };
  }
}
