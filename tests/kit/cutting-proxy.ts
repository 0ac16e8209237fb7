/**
 * A TCP proxy on loopback that cuts connections: after a number of bytes, all at once, or by
 * refusing new ones, as bad networks and dying servers do.
 */
import net from "node:net";
import type { AddressInfo } from "node:net";

export interface CuttingProxyOptions {
  /** Bytes that the next connection carries, both ways together, before it is cut in the middle of whatever it carries. */
  bytes?: () => number;
}

export class CuttingProxy implements AsyncDisposable {
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();
  readonly #bytes: () => number;
  /** True: new connections are closed at once. */
  isDown = false;
  /** So many of the next connections are cut when their first answer comes: the request has arrived, the answer has not. */
  answersToCut = 0;
  /** Connections that were cut. */
  cuts = 0;
  /** Connections that were asked for. */
  connections = 0;

  private constructor(target: { host: string; port: number }, options: CuttingProxyOptions) {
    this.#bytes = options.bytes ?? (() => Infinity);
    this.#server = net.createServer((client) => this.#join(client, target));
  }

  /** Listens on a free port; `baseUrl` is where the connections go. */
  static async open(baseUrl: string, options: CuttingProxyOptions = {}): Promise<CuttingProxy> {
    const { hostname, port } = new URL(baseUrl);
    const proxy = new CuttingProxy({ host: hostname, port: Number(port) }, options);
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Cuts every connection there is. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #join(client: net.Socket, target: { host: string; port: number }): void {
    this.connections += 1;
    client.on("error", () => {}); // reset by one of the two: the other follows
    if (this.isDown) return void client.destroy();
    const server = net.connect(target.port, target.host);
    server.on("error", () => {}); // as above
    let left = this.#bytes();
    const pass = (from: net.Socket, to: net.Socket): void => {
      this.#sockets.add(from);
      from.setNoDelay(true);
      from.on("data", (data: Buffer) => {
        if (from === server && this.answersToCut > 0) {
          this.answersToCut -= 1;
          left = 0;
        }
        const part = data.subarray(0, left);
        left -= part.length;
        if (part.length > 0 && !to.write(part) && left > 0) {
          from.pause();
          to.once("drain", () => from.resume());
        }
        if (left > 0) return;
        this.cuts += 1;
        client.removeAllListeners("data");
        server.removeAllListeners("data");
        client.destroySoon();
        server.destroySoon();
      });
      from.on("end", () => to.end());
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroySoon();
      });
    };
    pass(client, server);
    pass(server, client);
  }
}

/** Numbers from `least` to `most` that come the same in every run: `seed` chooses the row. */
export function seededNumbers(seed: number, least: number, most: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return least + Math.floor((state / 2 ** 32) * (most - least + 1));
  };
}
