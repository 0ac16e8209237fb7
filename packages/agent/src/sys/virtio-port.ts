/**
 * A virtio-serial port as a Duplex, without polling and without a blocked thread: the kernel
 * raises SIGIO when bytes come or when the host connects.
 *
 * Invariants: reads never block (asked before each); writes run in the thread pool and may wait
 * there for the host; while the host is not connected written bytes wait here, bounded.
 */
import fs from "node:fs";
import path from "node:path";
import { Duplex } from "node:stream";
import { fcntl, isReadable } from "./libc.ts";

const PORTS_DIRECTORY = "/sys/class/virtio-ports";
const READ_BYTES = 64 * 1024;

/** Device file of the port with that name; undefined when the VM has none. */
export function findVirtioPort(name: string): string | undefined {
  if (!fs.existsSync(PORTS_DIRECTORY)) return undefined;
  for (const entry of fs.readdirSync(PORTS_DIRECTORY)) {
    if (fs.readFileSync(path.join(PORTS_DIRECTORY, entry, "name"), "utf8").trim() === name) return path.join("/dev", entry);
  }
  return undefined;
}

/** Opens a port for good. The stream never ends: a host that leaves may come back. */
export class VirtioPort extends Duplex {
  readonly #fd: number;
  #wanted = false;
  #onSignal = (): void => this.#fill();

  constructor(device: string) {
    super({ readableHighWaterMark: READ_BYTES, writableHighWaterMark: READ_BYTES });
    this.#fd = fs.openSync(device, "r+");
    const F_SETOWN = 8;
    const F_GETFL = 3;
    const F_SETFL = 4;
    const O_ASYNC = 0o20000;
    // oxlint-disable-next-line house/no-process-on -- how the kernel says that a port has bytes
    process.on("SIGIO", this.#onSignal);
    fcntl(this.#fd, F_SETOWN, process.pid);
    fcntl(this.#fd, F_SETFL, fcntl(this.#fd, F_GETFL, 0) | O_ASYNC);
  }

  override _read(): void {
    this.#wanted = true;
    this.#fill();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#writeAll(chunk, done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    process.off("SIGIO", this.#onSignal);
    fs.close(this.#fd, () => done(error));
  }

  #fill(): void {
    while (this.#wanted && isReadable(this.#fd)) {
      const bytes = Buffer.allocUnsafe(READ_BYTES);
      const count = fs.readSync(this.#fd, bytes);
      // Readable without bytes: the host has gone; the next signal tells of its return.
      if (count === 0) return;
      this.#wanted = this.push(bytes.subarray(0, count));
    }
  }

  #writeAll(bytes: Buffer, done: (error?: Error | null) => void): void {
    fs.write(this.#fd, bytes, (error, written) => {
      if (error || written >= bytes.length) done(error);
      else this.#writeAll(bytes.subarray(written), done);
    });
  }
}
