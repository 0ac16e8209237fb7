/**
 * Network slots without a network: each is a loopback port that leads to whatever agent runs in
 * its VM. The daemon dials it as it would dial a VM's management NIC.
 */
import net from "node:net";
import type { NetworkSlot, OpenNetworkSlots, VmSpec } from "@sprited/vmm";

interface Relay {
  slot: NetworkSlot;
  server: net.Server;
  sockets: Set<net.Socket>;
  target: { host: string; port: number } | undefined;
}

export class LoopbackSlots implements OpenNetworkSlots, AsyncDisposable {
  readonly problems = [];
  readonly #relays = new Map<number, Relay>();
  #next = 0;

  async acquire(): Promise<NetworkSlot> {
    const index = this.#next;
    this.#next += 1;
    const relay: Relay = {
      slot: undefined as unknown as NetworkSlot,
      server: net.createServer((socket) => connect(relay, socket)),
      sockets: new Set(),
      target: undefined,
    };
    await new Promise<void>((resolve) => relay.server.listen(0, "127.0.0.1", resolve));
    const { port } = relay.server.address() as net.AddressInfo;
    relay.slot = {
      index,
      netnsPath: "",
      managementTap: `sim${index}m`,
      userTap: `sim${index}u`,
      agentAddress: { host: "127.0.0.1", port },
      uid: process.getuid?.() ?? 0,
      gid: process.getgid?.() ?? 0,
    };
    this.#relays.set(index, relay);
    return relay.slot;
  }

  /** Leads the slot of a VM to its agent. */
  route(spec: VmSpec, target: { host: string; port: number }): void {
    for (const relay of this.#relays.values()) if (relay.slot.managementTap === spec.nics[0]?.tap) relay.target = target;
  }

  async release(slot: NetworkSlot): Promise<void> {
    const relay = this.#relays.get(slot.index);
    this.#relays.delete(slot.index);
    if (relay) close(relay);
  }

  async adopt(index: number): Promise<NetworkSlot | undefined> {
    return this.#relays.get(index)?.slot;
  }

  async settle(): Promise<void> {}

  async refresh(): Promise<void> {}

  async close(): Promise<void> {
    for (const relay of this.#relays.values()) close(relay);
    this.#relays.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function connect(relay: Relay, socket: net.Socket): void {
  if (!relay.target) {
    socket.destroy();
    return;
  }
  const other = net.connect({ ...relay.target, noDelay: true });
  socket.setNoDelay(true);
  for (const [from, to] of [
    [socket, other],
    [other, socket],
  ] as const) {
    relay.sockets.add(from);
    from.on("error", () => to.destroy());
    from.on("close", () => {
      relay.sockets.delete(from);
      to.destroy();
    });
    from.pipe(to);
  }
}

function close(relay: Relay): void {
  relay.server.close();
  for (const socket of relay.sockets) socket.destroy();
}
