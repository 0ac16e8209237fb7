/**
 * What the link's requests do: sessions in the inner environment, its status, its end. The same
 * in a VM and on a bare host; only the environment differs.
 */
import { GUEST_LIMITS, type Bootstrap, type GuestStatus, type SessionStart } from "@sprited/protocol/guest";
import type { ServerHttp2Stream } from "node:http2";
import { serveFileStream } from "./fs/file-stream.ts";
import type { FileRoot } from "./fs/root.ts";
import type { FileWorkers } from "./fs/workers.ts";
import type { LinkService } from "./link/link-server.ts";
import { RefusedError, type SessionRegistry } from "./session/registry.ts";
import type { Session } from "./session/session.ts";
import { connectInside } from "./net/connect.ts";
import { ConnectError } from "./net/connect-error.ts";
import { PortScan } from "./net/port-scan.ts";
import { PortWatch } from "./net/port-watch.ts";
import { LaunchError } from "./spawn/launch.ts";
import { EnclosureGoneError, type Spawner } from "./spawn/spawner.ts";
import type { Machine } from "./sys/machine.ts";

/** Where sessions run: brought up after bootstrap, and again when it ended by itself. */
export interface Environment {
  readonly status: Pick<GuestStatus, "inner" | "inner_error" | "inner_starts">;
  /** The `/` of file calls. */
  readonly files: FileRoot;
  /**
   * Ends the connections to the outside that the memory brought along, when the bootstrap asks for
   * that or brings another identity (BOOT-7). Before `bootstrap`. Throws when the end of one was not confirmed.
   */
  dropInherited(bootstrap: Bootstrap): void;
  /** Takes over identity and disk; the environment comes up without being asked. */
  bootstrap(bootstrap: Bootstrap): void;
  /** Resolves when commands can be started. Rejects with the reason when they cannot. */
  ready(): Promise<void>;
  /** Ends it and unmounts the disk. Idempotent. */
  stop(graceMs: number): Promise<void>;
  sync(): Promise<void>;
  /** Writes everything to the disk and keeps it from being written until `thaw`, at most `timeoutMs`. */
  freeze(timeoutMs: number): Promise<void>;
  /** Ends a freeze. Returns whether it held until now; without one there was nothing to hold. */
  thaw(): Promise<{ held: boolean }>;
  /** Stops every process of the environment until the next bootstrap; with `sync` its disk is then flushed. */
  rest(options: { sync: boolean }): Promise<void>;
}

const MESSAGE_LENGTH_MAX = 1000;

export class AgentService implements LinkService {
  readonly agentVersion: string;
  readonly sessions: SessionRegistry;
  readonly ports: PortWatch;
  readonly #environment: Environment;
  readonly #machine: Machine;
  readonly #spawner: Spawner;
  readonly #files: FileWorkers;
  #variables: Record<string, string> = {};

  constructor(options: {
    agentVersion: string;
    sessions: SessionRegistry;
    environment: Environment;
    machine: Machine;
    spawner: Spawner;
    files: FileWorkers;
  }) {
    this.agentVersion = options.agentVersion;
    this.#spawner = options.spawner;
    this.#files = options.files;
    const { network, innerPid } = options.spawner.enclosure;
    this.ports = new PortWatch(new PortScan(network, innerPid));
    this.#machine = options.machine;
    this.sessions = options.sessions;
    this.#environment = options.environment;
  }

  serveFile(stream: ServerHttp2Stream): void {
    serveFileStream(stream, this.#files, () => refusing("inner_failed", this.#environment.ready()));
  }

  bootstrap(bootstrap: Bootstrap): void {
    this.#variables = bootstrap.environment;
    this.#environment.bootstrap(bootstrap);
  }

  status(): GuestStatus {
    return { ...this.#environment.status, sessions: this.sessions.size, time_ms: Date.now() };
  }

  async startSession(id: string, start: SessionStart): Promise<Session> {
    try {
      const session = await this.#startOnce(id, start).catch((error: unknown) => {
        if (error instanceof EnclosureGoneError) return this.#startOnce(id, start);
        throw error;
      });
      if (!session) throw new RefusedError("not_found", "the session was deleted before it began");
      return session;
    } catch (error) {
      this.sessions.release(id);
      if (error instanceof RefusedError) throw error;
      if (error instanceof ConnectError) throw new RefusedError("unreachable", error.reason, { cause: error });
      if (error instanceof LaunchError) throw new RefusedError("invalid", error.message, { cause: error });
      throw new RefusedError("internal", `the command could not be started: ${reason(error)}`, { cause: error });
    }
  }

  async #startOnce(id: string, start: SessionStart): Promise<Session | undefined> {
    await refusing("inner_failed", this.#environment.ready());
    if (!this.sessions.isReserved(id)) return undefined;
    const spawner = this.#spawner;
    const command =
      "connect" in start
        ? await connectInside(start.connect, { network: spawner.enclosure.network, spawner })
        : spawner.start(start, this.#variables);
    return this.sessions.begin(id, start, command);
  }

  async stop(graceMs: number): Promise<void> {
    await refusing("inner_failed", this.#environment.stop(graceMs));
  }

  setClock(timeMs: number): void {
    try {
      this.#machine.setClock(timeMs);
    } catch (error) {
      throw new RefusedError("internal", reason(error), { cause: error });
    }
  }

  async sync(): Promise<void> {
    await refusing("internal", this.#environment.sync());
  }

  async freeze(timeoutMs: number): Promise<void> {
    await refusing("internal", this.#environment.freeze(timeoutMs));
  }

  async thaw(): Promise<{ held: boolean }> {
    return await refusing("internal", this.#environment.thaw());
  }

  async rest(options: { sync: boolean }): Promise<void> {
    await refusing("internal", this.#environment.rest(options));
  }
}

async function refusing<T>(code: "inner_failed" | "internal", work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof RefusedError) throw error;
    throw new RefusedError(code, reason(error), { cause: error });
  }
}

/** Inside the guest nothing is secret from the host: the reason may be told. */
function reason(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, Math.min(MESSAGE_LENGTH_MAX, GUEST_LIMITS.jsonBytesMax));
}
