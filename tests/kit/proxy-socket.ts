/** The proxy endpoint seen raw, and our own client over WebSockets that are cut on purpose. */
import { once } from "node:events";
import { ignore, waitFor, withDeadline } from "@sprited/base";
import { openProxy, type WebSocketLike } from "@sprited/protocol/client";
import { WebSocket } from "ws";
import type { Target } from "./target.ts";

const ANSWER_TIMEOUT_MS = 120_000;

export class ProxySocket {
  readonly socket: WebSocket;
  answer: Record<string, unknown> = {};
  readonly texts: Record<string, unknown>[] = [];
  readonly chunks: Buffer[] = [];
  closeCode: number | undefined;

  private constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on("error", ignore("the close code tells"));
    socket.on("close", (code) => {
      this.closeCode = code;
    });
  }

  /** Opens the endpoint, sends `request` and waits for the answer. */
  static async open(target: Target, name: string, request: object | string, options: { autoPong?: boolean } = {}): Promise<ProxySocket> {
    const socket = new WebSocket(`${target.baseUrl.replace(/^http/, "ws")}/v1/sprites/${name}/proxy`, {
      headers: { authorization: `Bearer ${target.token}` },
      perMessageDeflate: false,
      ...options,
    });
    const opened = new ProxySocket(socket);
    await withDeadline("the proxy's answer", { timeoutMs: ANSWER_TIMEOUT_MS }, async (signal) => {
      await once(socket, "open", { signal });
      socket.send(typeof request === "string" ? request : JSON.stringify(request));
      const answered = once(socket, "message", { signal });
      // Before the answer: bytes may come with it.
      socket.on("message", (data: Buffer, isBinary) => {
        if (isBinary) opened.chunks.push(Buffer.from(data));
        else opened.texts.push(JSON.parse(data.toString("utf8")) as Record<string, unknown>);
      });
      await answered;
      opened.answer = opened.texts.shift() ?? {};
    });
    return opened;
  }

  get received(): Buffer {
    return Buffer.concat(this.chunks);
  }

  send(data: Uint8Array | object): void {
    this.socket.send(data instanceof Uint8Array ? data : JSON.stringify(data));
  }

  close(): void {
    this.socket.close(1000);
  }

  async closed(): Promise<void> {
    await waitFor("the close", { timeoutMs: 30_000 }, () => this.closeCode !== undefined);
  }

  /** Sends `data` to an echo through our client and ends; the WebSocket is cut `cuts` times on the way back. */
  static async sendThroughCuts(
    target: Target,
    name: string,
    options: { port: number; data: Buffer; cuts: number },
  ): Promise<{ received: Buffer; cuts: number; eof: boolean }> {
    const { data, cuts } = options;
    let current: WebSocket | undefined;
    const openSocket = (url: string, headers: Record<string, string>): WebSocketLike => {
      current = new WebSocket(url, { headers, perMessageDeflate: false });
      return current as unknown as WebSocketLike;
    };
    const chunks: Buffer[] = [];
    let received = 0;
    let done = 0;
    let eof = false;
    const nextCut = (): number => received + Math.ceil(Math.random() * ((2 * data.length) / cuts));
    let cutAt = nextCut();
    const connection = await openProxy(
      { baseUrl: target.baseUrl, token: target.token, sprite: name, openSocket },
      { host: "localhost", port: options.port },
      {
        data: (bytes, taken) => {
          chunks.push(Buffer.from(bytes));
          received += bytes.length;
          taken();
          if (received < cutAt || done >= cuts) return;
          done += 1;
          cutAt = nextCut();
          current?.terminate();
        },
        eof: () => {
          eof = true;
        },
      },
    );
    for (let at = 0; at < data.length; at += 256 * 1024) await connection.write(data.subarray(at, at + 256 * 1024));
    connection.end();
    await connection.ended;
    return { received: Buffer.concat(chunks), cuts: done, eof };
  }
}
