/** The least of a host that the rehearsal needs: greets, runs commands, asks for the status. */
import { randomBytes } from "node:crypto";
import http2 from "node:http2";
import type { Duplex } from "node:stream";
import { ignore } from "@sprited/base";
import {
  decodeOffset,
  encodeFrame,
  encodeJsonFrame,
  encodeOffsets,
  FrameDecoder,
  FrameType,
  GUEST_GENERATION,
  type CommandStart,
} from "@sprited/protocol/guest";
import { proofOf } from "../link/proof.ts";

export class RehearsalClient {
  readonly #session: http2.ClientHttp2Session;

  constructor(carrier: Duplex) {
    this.#session = http2.connect("http://agent", { createConnection: () => carrier });
    this.#session.on("error", ignore("the calls tell"));
  }

  async hello(incarnation: string, key: Uint8Array): Promise<void> {
    const nonce = randomBytes(16).toString("hex");
    await this.#call("POST", "/hello", {
      generation: GUEST_GENERATION,
      incarnation,
      nonce,
      proof: proofOf("host", key, incarnation, nonce),
    });
  }

  async status(): Promise<void> {
    await this.#call("GET", "/status");
  }

  /** Runs a command with some input to its end and forgets it. */
  async run(id: string, start: Pick<CommandStart, "argv" | "tty" | "stdin">, input: string): Promise<void> {
    const stream = this.#session.request({ ":method": "POST", ":path": `/sessions/${id}` }, { endStream: false });
    stream.write(encodeJsonFrame(FrameType.start, { ...start, env: { REHEARSED: "1" }, dir: null }));
    const bytes = Buffer.from(input);
    stream.write(encodeFrame(FrameType.input, encodeOffsets(0), bytes));
    stream.write(encodeFrame(FrameType.inputEnd, encodeOffsets(bytes.length)));
    const decoder = new FrameDecoder();
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      for (const frame of decoder.push(chunk)) {
        if (frame.type === FrameType.output) stream.write(encodeFrame(FrameType.ack, encodeOffsets(decodeOffset(frame.payload, 1), 0)));
        if (frame.type === FrameType.failed) throw new Error(`a rehearsed command failed: ${Buffer.from(frame.payload).toString("utf8")}`);
      }
    }
    stream.close();
    await this.#call("DELETE", `/sessions/${id}`);
  }

  close(): void {
    this.#session.destroy();
  }

  async #call(method: string, path: string, body?: unknown): Promise<void> {
    const stream = this.#session.request({ ":method": method, ":path": path }, { endStream: false });
    const answered = new Promise<number>((resolve, reject) => {
      stream.once("response", (headers) => resolve(Number(headers[":status"])));
      stream.once("error", reject);
      stream.once("close", () => reject(new Error(`${path}: no answer`)));
    });
    stream.end(body === undefined ? undefined : JSON.stringify(body));
    stream.resume();
    const status = await answered;
    if (status !== 200) throw new Error(`${path}: ${status}`);
  }
}
