/**
 * The boot port: one JSON object per line (BOOT-1). Lines that are too long or do not fit the
 * schema are dropped; the next one is read as if nothing had happened.
 */
import type { Duplex } from "node:stream";
import { ignore } from "@sprited/base";
import { bootRequest, type BootReply, type BootRequest, GUEST_LIMITS } from "@sprited/protocol/guest";

const NEWLINE = 10;

export class BootPort {
  readonly #port: Duplex;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  /** Inside a line that is already too long. */
  #skipping = false;

  /** `onRequest` is called for each valid line, in order. */
  constructor(port: Duplex, onRequest: (request: BootRequest) => void) {
    this.#port = port;
    port.on("error", ignore("a port that broke says nothing more"));
    port.on("data", (chunk: Buffer) => {
      for (const line of this.#lines(chunk)) {
        const request = parseLine(line);
        if (request) onRequest(request);
      }
    });
  }

  /** Writes a line; `onSent` is called when the port has taken it, which may wait for the host. */
  send(reply: BootReply, onSent?: () => void): void {
    this.#port.write(`${JSON.stringify(reply)}\n`, onSent);
  }

  *#lines(chunk: Buffer): Generator<string> {
    let at = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, at)) {
      this.#keep(chunk.subarray(at, end));
      at = end + 1;
      const line = this.#skipping ? undefined : Buffer.concat(this.#pending).toString("utf8");
      this.#drop();
      this.#skipping = false;
      if (line !== undefined) yield line;
    }
    this.#keep(chunk.subarray(at));
  }

  #keep(part: Buffer): void {
    if (this.#skipping || part.length === 0) return;
    this.#pendingBytes += part.length;
    if (this.#pendingBytes > GUEST_LIMITS.bootLineBytesMax) {
      this.#skipping = true;
      this.#drop();
      return;
    }
    this.#pending.push(part);
  }

  #drop(): void {
    this.#pending = [];
    this.#pendingBytes = 0;
  }
}

function parseLine(line: string): BootRequest | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  const parsed = bootRequest.safeParse(value);
  return parsed.success ? parsed.data : undefined;
}
