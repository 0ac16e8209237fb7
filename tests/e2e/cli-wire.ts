/** A TCP relay between the command and the server that counts bytes and cuts connections at chosen ones. */
import net from "node:net";

export class Wire {
  /** Each connection is cut after so many bytes. */
  cutEvery = Infinity;
  cuts = 0;
  /** Bytes both ways since it was last set. */
  bytes = 0;
  /** Acts once, when `bytes` has reached `at`; every connection is cut then. */
  once: { at: number; act(): void } | undefined;
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();

  private constructor(server: net.Server) {
    this.#server = server;
  }

  static async open(to: number): Promise<Wire> {
    const server = net.createServer();
    const wire = new Wire(server);
    server.on("connection", (client) => wire.#join(client, net.connect(to, "127.0.0.1")));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return wire;
  }

  get port(): number {
    return (this.#server.address() as net.AddressInfo).port;
  }

  /** As new: nothing is cut, nothing was counted. */
  reset(): void {
    [this.cutEvery, this.cuts, this.bytes, this.once] = [Infinity, 0, 0, undefined];
  }

  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  close(): void {
    this.cut();
    this.#server.close();
  }

  #join(client: net.Socket, upstream: net.Socket): void {
    let bytes = 0;
    for (const [from, into] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      this.#sockets.add(from);
      from.on("error", () => into.destroy());
      from.on("close", () => {
        this.#sockets.delete(from);
        into.destroy();
      });
      from.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        this.bytes += chunk.length;
        const { once } = this;
        if (once && this.bytes >= once.at) {
          this.once = undefined;
          once.act();
          this.cut();
        } else if (bytes >= this.cutEvery) {
          this.cuts += 1;
          client.resetAndDestroy();
          upstream.resetAndDestroy();
        }
      });
      from.pipe(into);
    }
  }
}
