/**
 * A simulated serial port: one guest end that stays, host ends that come and go one after another.
 *
 * Invariants, as a real port has them: what the guest writes while no host end is open waits;
 * nothing passes in either direction while the machine is paused; a host end that closes loses
 * what was on its way.
 */
import { Duplex } from "node:stream";

/** Something to do when bytes may pass again. */
type Waiting = () => void;

export class SimulatedPort {
  /** The end inside the machine. */
  readonly guestEnd: Duplex;
  #host: Duplex | undefined;
  #isPaused = false;
  #toHost: Waiting | undefined;
  #toGuest: Waiting[] = [];

  constructor() {
    this.guestEnd = new Duplex({
      read: () => {},
      write: (chunk: Buffer, _encoding, done) => {
        this.#toHost = () => {
          this.#toHost = undefined;
          const hasRoom = this.#host?.push(chunk) ?? false;
          if (hasRoom) done();
          else this.#toHost = done;
        };
        this.#flushToHost();
      },
    });
  }

  /** A new host end; waits until the one before it is closed. Rejects with the signal's reason. */
  async open(signal: AbortSignal | undefined): Promise<Duplex> {
    while (this.#host) await closeOf(this.#host, signal);
    signal?.throwIfAborted();
    const host = new Duplex({
      read: () => this.#flushToHost(),
      write: (chunk: Buffer, _encoding, done) => {
        this.#toGuest.push(() => {
          this.guestEnd.push(chunk);
          done();
        });
        this.#flushToGuest();
      },
      destroy: (error, done) => {
        if (this.#host === host) this.#host = undefined;
        done(error);
      },
    });
    this.#host = host;
    return host;
  }

  setPaused(isPaused: boolean): void {
    this.#isPaused = isPaused;
    this.#flushToGuest();
    this.#flushToHost();
  }

  /** The machine is gone; the guest's end waits for another. */
  detach(): void {
    this.#host?.destroy();
  }

  /** The machine is gone, and the guest with it. */
  close(): void {
    this.detach();
    this.guestEnd.destroy();
  }

  #flushToHost(): void {
    if (this.#host && !this.#isPaused) this.#toHost?.();
  }

  #flushToGuest(): void {
    while (!this.#isPaused && this.#toGuest.length > 0) this.#toGuest.shift()?.();
  }
}

async function closeOf(stream: Duplex, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const onAbort = (): void => reject(signal?.reason as Error);
    signal?.addEventListener("abort", onAbort, { once: true });
    stream.once("close", () => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
  });
}
