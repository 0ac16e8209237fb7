/** A bare WebSocket client that records what it hears, for tests of exec sockets. */
import { once } from "node:events";
import { waitFor } from "@sprited/base";
import WebSocket from "ws";
import type { Testbed } from "./testbed.ts";

export interface Heard {
  kind: "text" | "binary";
  data: Buffer;
}

export class ExecSocketClient {
  readonly socket: WebSocket;
  readonly heard: Heard[] = [];
  readonly headers: Record<string, string | string[] | undefined> = {};
  closeCode: number | undefined;

  constructor(url: string, token: string) {
    this.socket = new WebSocket(url, { headers: { authorization: `Bearer ${token}` } });
    this.socket.on("upgrade", (response) => Object.assign(this.headers, response.headers));
    this.socket.on("message", (data, isBinary) => this.heard.push({ kind: isBinary ? "binary" : "text", data: data as Buffer }));
    this.socket.on("close", (code) => (this.closeCode = code));
    this.socket.on("error", () => {});
  }

  static async open(bed: Testbed, query: string, options: { path?: string; token?: string } = {}): Promise<ExecSocketClient> {
    const client = new ExecSocketClient(
      `${bed.server.url.replace("http", "ws")}${options.path ?? "/v1/sprites/box/exec"}?${query}`,
      options.token ?? bed.token,
    );
    await once(client.socket, "open");
    return client;
  }

  async closed(): Promise<void> {
    await waitFor("the socket to close", { timeoutMs: 5_000 }, () => this.closeCode !== undefined);
  }

  texts(): Record<string, unknown>[] {
    return this.heard.filter(({ kind }) => kind === "text").map(({ data }) => JSON.parse(data.toString()) as Record<string, unknown>);
  }

  /** Bytes of one stream; without terminal by its id, with terminal all binary messages. */
  output(id: number | "terminal"): string {
    const binary = this.heard.filter(({ kind }) => kind === "binary").map(({ data }) => data);
    const chunks = id === "terminal" ? binary : binary.filter((data) => data[0] === id).map((data) => data.subarray(1));
    return Buffer.concat(chunks).toString();
  }

  /** Waits until `text` has come on a stream. */
  async hears(id: number | "terminal", text: string): Promise<void> {
    await waitFor(`"${text}"`, { timeoutMs: 5_000 }, () => this.output(id).includes(text));
  }
}

/** The HTTP answer to an upgrade that is refused. */
export async function refusal(
  bed: Testbed,
  path: string,
  options: { token?: string | null; headers?: Record<string, string> } = {},
): Promise<{ status: number; headers: Record<string, string | string[] | undefined>; body: string }> {
  const token = options.token === undefined ? bed.token : options.token;
  const socket = new WebSocket(bed.server.url.replace("http", "ws") + path, {
    headers: { ...(token === null ? {} : { authorization: `Bearer ${token}` }), ...options.headers },
  });
  return await new Promise((resolve, reject) => {
    socket.on("error", reject);
    socket.on("open", () => reject(new Error("the upgrade was accepted")));
    socket.on("unexpected-response", (request, response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks).toString() });
        request.destroy();
      });
    });
  });
}
