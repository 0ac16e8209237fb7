/**
 * The link over a serial port, for hosts without taps (BOOT-6). A port has no connections, so a
 * line with the host's nonce marks where a new session begins.
 */
import { Duplex } from "node:stream";

/** Longest stretch of old bytes that is skipped while looking for the line, bytes. */
const SKIP_BYTES_MAX = 64 * 1024 * 1024;

export class SerialLink {
  readonly #port: Duplex;
  readonly #serve: (carrier: Duplex) => void;
  #carrier: SerialCarrier | undefined;
  #seeking: { line: Buffer; tail: Buffer; skipped: number } | undefined;

  constructor(port: Duplex, serve: (carrier: Duplex) => void) {
    this.#port = port;
    this.#serve = serve;
    port.on("error", () => this.#carrier?.destroy());
    port.on("data", (chunk: Buffer) => this.#receive(chunk));
  }

  /** Drops the present session and begins a new one behind the host's line. */
  begin(nonce: string): void {
    this.#carrier?.destroy();
    this.#carrier = undefined;
    const line = Buffer.from(`${nonce}\n`);
    this.#seeking = { line, tail: Buffer.alloc(0), skipped: 0 };
    this.#port.write(line);
    this.#port.resume();
  }

  #receive(chunk: Buffer): void {
    const seeking = this.#seeking;
    if (!seeking) {
      if (this.#carrier && !this.#carrier.push(chunk)) this.#port.pause();
      return;
    }
    const bytes = Buffer.concat([seeking.tail, chunk]);
    const at = bytes.indexOf(seeking.line);
    if (at < 0) {
      seeking.skipped += chunk.length;
      seeking.tail = bytes.subarray(-(seeking.line.length - 1));
      if (seeking.skipped > SKIP_BYTES_MAX) this.#seeking = undefined;
      return;
    }
    this.#seeking = undefined;
    const carrier = new SerialCarrier(this.#port);
    this.#carrier = carrier;
    this.#serve(carrier);
    const rest = bytes.subarray(at + seeking.line.length);
    if (rest.length > 0) carrier.push(rest);
  }
}

/** One session's view of the port. */
class SerialCarrier extends Duplex {
  readonly #port: Duplex;

  constructor(port: Duplex) {
    super();
    this.#port = port;
  }

  override _read(): void {
    this.#port.resume();
  }

  /**
   * Taken at once, sent when the port takes it: node:http2 does not read while it waits for a
   * write, and two ends that wait for each other over a full port would wait for ever. What is
   * held here is bounded by the windows of the link. A copy: the chunk's memory is used again.
   */
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#port.write(Buffer.from(chunk));
    done();
  }
}
