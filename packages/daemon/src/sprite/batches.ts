/**
 * Sprites that exist together or not at all. Until its batch is finished nobody meets a sprite of it, and a
 * daemon that finds it at start frees it. What cannot be freed at once is tried again.
 */
import type { Logger } from "@sprited/base";
import { Leftovers } from "./leftovers.ts";
import type { SpriteRecords } from "./records.ts";
import type { Entry } from "./registry.ts";
import type { SpriteIndex } from "./sprite-index.ts";

export interface BatchesOptions {
  index: SpriteIndex;
  records: SpriteRecords;
  /** Removes a sprite's files; missing ones are fine. */
  freeDisk(spriteId: string): Promise<void>;
  /** Tells that a sprite is there. */
  appeared(entry: Entry): void;
  logger: Logger;
}

export class Batches {
  readonly #options: BatchesOptions;
  readonly #leftovers: Leftovers;

  constructor(options: BatchesOptions) {
    this.#options = options;
    this.#leftovers = new Leftovers({ logger: options.logger });
  }

  /** From now on its sprites exist, all at once. */
  finish(batchId: string): void {
    this.#options.records.finishBatch(batchId);
    for (const entry of this.#entries(batchId)) {
      entry.batchId = undefined;
      this.#options.appeared(entry);
    }
  }

  /** Frees its sprites, now or as soon as it can be done. */
  async abandon(batchId: string): Promise<void> {
    await Promise.all(this.#entries(batchId).map((entry) => this.takeBack(entry)));
  }

  /** Frees a sprite that could not be made, now or later; its name stays taken until then. */
  async takeBack(entry: Entry): Promise<void> {
    const { records, index, freeDisk } = this.#options;
    const { id, name } = entry.sprite;
    await this.#leftovers.takeBack(name, async () => {
      if (entry.driver.state.kind !== "creating") return await entry.driver.delete();
      await freeDisk(id);
      records.deleteSprite(id);
      index.remove(entry);
    });
  }

  /** Gives up what is still tried. */
  close(): void {
    this.#leftovers.close();
  }

  #entries(batchId: string): Entry[] {
    return this.#options.index.all().filter((entry) => entry.batchId === batchId);
  }
}
