/** What a new sprite begins as: an image's disk, with errors that name it, or a state with its memory. */
import { randomBytes } from "node:crypto";
import { DiskError, type DiskPool, type ImageStore } from "@sprited/disk";
import { ApiError } from "@sprited/protocol/errors";
import { memoryPaths } from "../machine/index.ts";
import type { Replaced, ReplacePlace, SpriteDriver } from "./driver/index.ts";
import type { SpriteOrigin } from "./sprite.ts";

/** Puts a clone of a memory beside the sprite's disk; the sprite is then asleep in it, in a life of its own. */
export async function placeMemory(pool: DiskPool, driver: SpriteDriver, memory: NonNullable<SpriteOrigin["memory"]>): Promise<void> {
  const end = { code: "sprite_restored", reason: "the sprite got another memory" } as const;
  const swap = async ({ memoryDirectory }: ReplacePlace): Promise<Replaced> => {
    const { ram, state } = memoryPaths(memoryDirectory);
    // Side by side: their flushes are one to the disk. None is left under way when one fails.
    const made = await Promise.allSettled([pool.clone(memory.ramPath, ram), pool.clone(memory.statePath, state)]);
    for (const one of made) if (one.status === "rejected") throw one.reason;
    return { memory: memory.record };
  };
  await driver.replaceState({ end, lifeId: randomBytes(6).toString("hex"), swap });
}

/** Room that must be left above the floor before a sprite is made, bytes: its first writes. */
const SPRITE_BYTES_MIN = 64 * 1024 * 1024;

/** Throws `disk_full` unless a sprite that begins as `origin` fits. */
export async function requireRoom(pool: DiskPool, origin: SpriteOrigin): Promise<void> {
  await pool.requireSpace(pool.cloneKind === "copy" ? origin.diskBytes : SPRITE_BYTES_MIN, "a sprite");
}

/** Finds the image and its file for a disk of `storageGb` GB. Throws `image_unknown`, `image_damaged`. */
export async function imageOrigin(images: ImageStore, name: string, storageGb: number): Promise<SpriteOrigin> {
  const shown = JSON.stringify(name);
  try {
    const image = await images.find(name);
    if (!image)
      throw new ApiError("image_unknown", `there is no image ${shown}; \`sprited image list\` shows what there is`, {
        details: { field: "image" },
      });
    return { image, diskPath: await images.disk(image, storageGb), diskBytes: image.contentBytes };
  } catch (error) {
    if (!(error instanceof DiskError) || error.code !== "disk_damaged") throw error;
    throw new ApiError("image_damaged", `the image ${shown} is damaged; build it again with \`sprited image build\``, { cause: error });
  }
}
