/**
 * Uploads by id: how far they are, and what was received by those whose connection was lost, kept
 * for a while without a name so that the client can go on where it was cut. Nothing of it outlives
 * the agent.
 *
 * Invariants: one call at most receives an upload; a newer call takes it over, and the older one
 * writes nothing any more; whoever has it last lets go of its file.
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
  /** Those that a call receives now. */
  readonly #running = new Map<string, Upload>();
  /** Bytes of trees that are being received. */
  readonly #trees = new Map<string, { bytes: number }>();

  /** Bytes that have arrived of an upload, kept or running; 0 of an unknown one. */
  offsetOf(id: string): number {
    return (this.#running.get(id) ?? this.#kept.get(id))?.offset ?? this.#trees.get(id)?.bytes ?? 0;
  }

  /**
   * Goes on with an upload at `offset`, also with one that another call still receives, or begins
   * a new one in what `open` gives. Throws a `FileFault` that names the right offset.
   */
  begin(id: string, offset: number, open: () => Staging): Upload {
    const begun = this.#running.get(id) ?? this.#kept.get(id);
    const expected = begun?.offset ?? 0;
    if (offset !== expected) throw new FileFault("EINVAL", `EINVAL: the upload goes on at ${expected}`, { offset: expected });
    // An object of its own for each call: by it a call notices that it was taken over.
    const upload = begun ? { ...begun } : { staging: open(), offset: 0 };
    this.#kept.delete(id);
    this.#running.set(id, upload);
    return upload;
  }

  /** Throws when another call has taken the upload over. */
  requireRunning(id: string, upload: Upload): void {
    if (this.#running.get(id) !== upload) throw new FileFault("ESTALE", "ESTALE: the upload goes on over another connection");
  }

  /** A call ends: what it received in part is kept, unless another call has it. */
  end(id: string, upload: Upload, options: { isReceived: boolean }): void {
    if (this.#running.get(id) !== upload) return;
    this.#running.delete(id);
    if (options.isReceived) upload.staging[Symbol.dispose]();
    else this.#keep(id, upload);
  }

  /** Counts the bytes of a tree while it is received. */
  beginTree(id: string): { bytes: number } & Disposable {
    const tree = { bytes: 0, [Symbol.dispose]: () => void (this.#trees.get(id) === tree && this.#trees.delete(id)) };
    this.#trees.set(id, tree);
    return tree;
  }

  /** Lets go of everything that is kept. */
  clear(): void {
    for (const id of this.#kept.keys()) this.#drop(id);
  }

  #keep(id: string, upload: Upload): void {
    this.#drop(id);
    this.#kept.set(id, upload);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > KEPT_MAX && oldest !== undefined) this.#drop(oldest);
    sleep(KEPT_MS, { ref: false }).then(() => {
      if (this.#kept.get(id) === upload) this.#drop(id);
    }, ignore("never rejects"));
  }

  #drop(id: string): void {
    this.#kept.get(id)?.staging[Symbol.dispose]();
    this.#kept.delete(id);
  }
}
