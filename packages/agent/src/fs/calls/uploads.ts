/**
 * Uploads whose connection was lost: what was received is kept for a while without a name, so that
 * the client can go on where it was cut. Nothing of it outlives the agent.
 */
import { ignore, sleep } from "@sprited/base";
import { FileFault } from "./call.ts";
import type { Staging } from "./staging.ts";

/** How long an upload is kept, ms. */
const KEPT_MS = 10 * 60_000;
/** Uploads kept at once; the oldest gives way. */
const KEPT_MAX = 64;

export interface Upload {
  staging: Staging;
  /** Bytes received. */
  offset: number;
}

export class Uploads {
  readonly #kept = new Map<string, Upload>();

  /** Bytes kept of an upload; 0 of an unknown one. */
  offsetOf(id: string): number {
    return this.#kept.get(id)?.offset ?? 0;
  }

  /** Goes on with an upload at `offset`; undefined for a new one. Throws a `FileFault` that names the right offset. */
  take(id: string, offset: number): Upload | undefined {
    const upload = this.#kept.get(id);
    const expected = upload?.offset ?? 0;
    if (offset !== expected) throw new FileFault("EINVAL", `EINVAL: the upload goes on at ${expected}`, { offset: expected });
    this.#kept.delete(id);
    return upload;
  }

  keep(id: string, upload: Upload): void {
    this.#drop(id);
    this.#kept.set(id, upload);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > KEPT_MAX && oldest !== undefined) this.#drop(oldest);
    sleep(KEPT_MS, { ref: false }).then(() => {
      if (this.#kept.get(id) === upload) this.#drop(id);
    }, ignore("never rejects"));
  }

  /** Lets go of everything. */
  clear(): void {
    for (const id of this.#kept.keys()) this.#drop(id);
  }

  #drop(id: string): void {
    this.#kept.get(id)?.staging[Symbol.dispose]();
    this.#kept.delete(id);
  }
}
