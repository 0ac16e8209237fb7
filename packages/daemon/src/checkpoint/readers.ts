/**
 * Looks into checkpoints: a throwaway machine for each that is being read, kept for a little while
 * so that the next call finds it warm. Nothing that happens in one reaches the checkpoint.
 *
 * To the file feature a checkpoint is a sprite called `NAME@ID`.
 */
import { after, ignore, type Logger } from "@sprited/base";
import type { FileSprites } from "../files/index.ts";
import { Activities } from "../sprite/activity.ts";
import { type GuestLife, lifeOfMachine } from "../sprite/life.ts";
import type { CheckpointMeta, CheckpointPaths } from "./files.ts";
import { openThrowaway, type Throwaway, type ThrowawayOptions } from "./throwaway.ts";

/** How long an unused machine is kept, ms. */
const KEEP_MS = 30_000;
/** Machines at once; the longest unused one makes room. */
const OPEN_MAX = 4;

export interface ReaderOptions extends ThrowawayOptions {
  /** The verified files of a checkpoint. Throws `ApiError`. */
  find(organizationId: string, spriteName: string, id: string): Promise<{ paths: CheckpointPaths; meta: CheckpointMeta }>;
  logger: Logger;
}

interface Entry {
  opened: Promise<Throwaway>;
  timer: Disposable | undefined;
}

/** The name under which the file feature reads a checkpoint. */
export function readerName(spriteName: string, id: string): string {
  return `${spriteName}@${id}`;
}

export class CheckpointReaders implements FileSprites {
  readonly activities = new Activities({ nowMs: Date.now });
  readonly #options: ReaderOptions;
  readonly #entries = new Map<string, Entry>();

  constructor(options: ReaderOptions) {
    this.#options = options;
    this.activities.subscribe((key) => this.#changed(key));
  }

  /** `spriteName` is a `readerName`. Everything else is checked when the machine is opened. */
  idOf(organizationId: string, spriteName: string): string {
    return JSON.stringify([organizationId, ...spriteName.split("@")]);
  }

  async wakeLife(key: string, options: { signal?: AbortSignal | undefined } = {}): Promise<GuestLife> {
    const { machine } = await this.#open(key);
    options.signal?.throwIfAborted();
    return lifeOfMachine(machine);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#entries.keys()].map((key) => this.#end(key)));
  }

  async #open(key: string): Promise<Throwaway> {
    const known = this.#entries.get(key);
    if (known) return await known.opened;
    await this.#makeRoom();
    const entry: Entry = { opened: this.#start(key), timer: undefined };
    this.#entries.set(key, entry);
    try {
      const throwaway = await entry.opened;
      void throwaway.machine.exited.then(() => this.#end(key));
      return throwaway;
    } catch (error) {
      if (this.#entries.get(key) === entry) this.#entries.delete(key);
      throw error;
    }
  }

  async #start(key: string): Promise<Throwaway> {
    const [organizationId = "", spriteName = "", id = ""] = JSON.parse(key) as string[];
    const { paths, meta } = await this.#options.find(organizationId, spriteName, id);
    return await openThrowaway(this.#options, { paths, meta, spriteName });
  }

  async #makeRoom(): Promise<void> {
    if (this.#entries.size < OPEN_MAX) return;
    const idle = [...this.#entries.keys()].filter((key) => this.activities.holders(key).length === 0);
    const [oldest] = idle.sort((a, b) => (this.activities.lastActiveMs(a) ?? 0) - (this.activities.lastActiveMs(b) ?? 0));
    if (oldest !== undefined) await this.#end(oldest);
  }

  #changed(key: string): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    entry.timer?.[Symbol.dispose]();
    entry.timer = this.activities.holders(key).length > 0 ? undefined : after(KEEP_MS, () => void this.#end(key));
  }

  async #end(key: string): Promise<void> {
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#entries.delete(key);
    entry.timer?.[Symbol.dispose]();
    this.activities.forget(key);
    const throwaway = await entry.opened.catch(ignore("it never opened"));
    try {
      await throwaway?.[Symbol.asyncDispose]();
    } catch (error) {
      this.#options.logger.warn(
        { event: "checkpoint.look", outcome: "not_ended", err: error },
        "a throwaway machine could not be ended in order",
      );
    }
  }
}
