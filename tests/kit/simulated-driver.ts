/** A VMM whose machines are functions in this process: what the guest side of the ports does is given. */
import { once } from "node:events";
import fs from "node:fs/promises";
import net from "node:net";
import path from "node:path";
import { Duplex } from "node:stream";
import { BOOT_PORT, LINK_PORT } from "@sprited/protocol/guest";
import { type VmExit, VmmError, type VmmDriver, type VmProcess, type VmSpec } from "@sprited/vmm";

/** The guest's ends of the ports. */
export interface GuestPorts {
  boot: Duplex;
  link: Duplex;
}

/** Starts what runs in a VM. */
export type GuestFactory = (ports: GuestPorts, spec: VmSpec) => Promise<AsyncDisposable>;

export interface SimulatedDriver extends VmmDriver {
  /** Ends a VM as a crash would. */
  crash(incarnation: string): Promise<void>;
  killAll(): Promise<void>;
}

export function simulatedDriver(guest: GuestFactory): SimulatedDriver {
  const live = new Map<string, SimulatedVm>();
  return {
    name: "simulated",
    build: "simulated-1",
    accelerator: { kind: "simulated", reason: "tests" },
    async start(spec) {
      await fs.mkdir(spec.directory, { recursive: true });
      const vm = new SimulatedVm(spec);
      if (spec.memory.kind === "fresh") await fs.writeFile(spec.memory.path, "ram");
      vm.guest = await guest({ boot: await vm.guestEnd(BOOT_PORT), link: await vm.guestEnd(LINK_PORT) }, spec);
      live.set(spec.directory, vm);
      void vm.exited.then(() => live.delete(spec.directory));
      return vm;
    },
    adopt: async (directory) => live.get(directory),
    close: async () => {},
    crash: async (incarnation) => {
      for (const vm of live.values()) if (vm.incarnation === incarnation) await vm.end({ kind: "crashed", detail: "simulated crash" });
    },
    killAll: async () => {
      for (const vm of live.values()) await vm.kill();
    },
  };
}

class SimulatedVm implements VmProcess {
  readonly incarnation: string;
  readonly pid = process.pid;
  readonly spec: VmSpec;
  readonly exited: Promise<VmExit>;
  guest: AsyncDisposable | undefined;
  readonly #ports: Port[] = [];
  #settle: (exit: VmExit) => void = () => {};
  #ended = false;
  #paused = false;

  constructor(spec: VmSpec) {
    this.incarnation = spec.incarnation;
    this.spec = spec;
    this.exited = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  async guestEnd(name: string): Promise<Duplex> {
    const port = await Port.listen(this.#socketPath(name));
    this.#ports.push(port);
    return port.guestEnd;
  }

  async openPort(name: string): Promise<Duplex> {
    if (this.#ended) throw new VmmError("vmm_exited_early", "the VM has ended");
    const socket = net.connect(this.#socketPath(name));
    await once(socket, "connect");
    return socket;
  }

  #socketPath(name: string): string {
    return path.join(this.spec.directory, name);
  }

  async pause(): Promise<void> {
    this.#paused = true;
  }

  async resume(): Promise<void> {
    this.#paused = false;
  }

  async isPaused(): Promise<boolean> {
    return this.#paused;
  }

  async saveState(statePath: string): Promise<{ ramPath: string; statePath: string; build: string; shape: VmSpec["shape"] }> {
    await fs.writeFile(statePath, "state");
    return { ramPath: path.join(path.dirname(statePath), "ram"), statePath, build: "simulated-1", shape: this.spec.shape };
  }

  async console(): Promise<string> {
    return "";
  }

  async kill(): Promise<void> {
    await this.end({ kind: "requested", detail: "" });
  }

  async end(exit: VmExit): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    for (const port of this.#ports) port.guestEnd.destroy();
    await this.guest?.[Symbol.asyncDispose]();
    this.#settle(exit);
  }

  async dispose(): Promise<void> {
    await fs.rm(this.spec.directory, { recursive: true, force: true });
  }
}

/**
 * A serial port as a VMM offers it: a unix socket on the host's side, where connections come and
 * go; the guest's end stays, and what it writes waits for a connection. The host's end must be a
 * real socket: node:http2 loses short answers on a client that runs over a Duplex made of JavaScript.
 */
class Port {
  readonly guestEnd: Duplex;
  #host: net.Socket | undefined;
  #held: { chunk: Buffer; done: () => void } | undefined;

  private constructor(server: net.Server) {
    this.guestEnd = new Duplex({
      read: () => this.#host?.resume(),
      write: (chunk: Buffer, _encoding, done) => {
        this.#held = { chunk, done };
        this.#deliver();
      },
      destroy: (error, done) => {
        this.#host?.destroy();
        server.close();
        done(error);
      },
    });
    this.guestEnd.on("error", () => {});
    server.on("connection", (socket) => this.#connect(socket));
  }

  static async listen(socketPath: string): Promise<Port> {
    const server = net.createServer();
    await new Promise<void>((resolve) => server.listen(socketPath, resolve));
    return new Port(server);
  }

  /** One connection at a time, as with QEMU: the next one waits until everything of the last was read. */
  #connect(socket: net.Socket): void {
    socket.on("error", () => {});
    if (this.#host) {
      this.#host.once("close", () => this.#connect(socket));
      return;
    }
    this.#host = socket;
    socket.on("data", (chunk) => {
      if (!this.guestEnd.push(chunk)) socket.pause();
    });
    socket.on("close", () => {
      if (this.#host === socket) this.#host = undefined;
    });
    this.#deliver();
  }

  #deliver(): void {
    const held = this.#held;
    const host = this.#host;
    if (!held || !host || host.destroyed) return;
    this.#held = undefined;
    host.write(held.chunk, (error) => {
      if (!error) return held.done();
      this.#held = held;
      host.destroy();
    });
  }
}
