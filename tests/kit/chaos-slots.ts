/**
 * Network slots that outlive daemons, as a host's do: each is a loopback port that hands its
 * connections to the guest of its VM. `forDaemon` is how one daemon sees them.
 */
import net from "node:net";
import type { Duplex } from "node:stream";
import type { NetworkSlot, OpenNetworkSlots, VmSpec } from "@sprited/vmm";
import { effect, outside } from "./mortal.ts";

interface Place {
  slot: NetworkSlot;
  server: net.Server;
  serve: (socket: Duplex) => void;
}

export class ChaosSlots {
  readonly #taken = new Map<number, Place>();
  #next = 0;

  /** Numbers that are taken. */
  get taken(): number[] {
    return [...this.#taken.keys()];
  }

  /** Leads the slot of a VM to its guest. */
  route(spec: VmSpec, serve: (socket: Duplex) => void): void {
    for (const place of this.#taken.values()) if (place.slot.managementTap === spec.nics[0]?.tap) place.serve = serve;
  }

  forDaemon(): OpenNetworkSlots {
    const mine = new Set<number>();
    return {
      problems: [],
      acquire: () =>
        effect("slot.acquire", async () => {
          const slot = await outside(() => this.#make());
          mine.add(slot.index);
          return slot;
        }),
      release: (slot) => effect("slot.release", async () => this.#remove(slot.index)),
      adopt: async (index) => {
        mine.add(index);
        return this.#taken.get(index)?.slot;
      },
      settle: () =>
        effect("slot.settle", async () => {
          for (const index of this.taken) if (!mine.has(index)) this.#remove(index);
        }),
      refresh: async () => {},
      close: async () => {},
    };
  }

  close(): void {
    for (const index of this.taken) this.#remove(index);
  }

  async #make(): Promise<NetworkSlot> {
    const index = this.#next;
    this.#next += 1;
    const server = net.createServer({ noDelay: true }, (socket) => this.#taken.get(index)?.serve(socket));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    server.unref();
    const slot: NetworkSlot = {
      index,
      netnsPath: "",
      managementTap: `sim${index}m`,
      userTap: `sim${index}u`,
      agentAddress: { host: "127.0.0.1", port: (server.address() as net.AddressInfo).port },
      uid: process.getuid?.() ?? 0,
      gid: process.getgid?.() ?? 0,
    };
    this.#taken.set(index, { slot, server, serve: (socket) => socket.destroy() });
    return slot;
  }

  #remove(index: number): void {
    this.#taken.get(index)?.server.close();
    this.#taken.delete(index);
  }
}
