/** What one sprite may ask of this host, and what the hub asks about an organization's quota. */
import { ApiError } from "@sprited/protocol/errors";
import type { SpriteConfig } from "./sprite.ts";

/** Sizes and image of a sprite whose owner names none. */
export interface SpriteDefaults extends SpriteConfig {
  imageName: string;
}

export interface SpriteLimits {
  cpusMax: number;
  memoryMibMax: number;
  storageGbMin: number;
  storageGbMax: number;
}

/** Checks before something is added; throws the quota's refusal. */
export interface SpriteQuotas {
  /** `present`: sprites that exist, spares included. */
  requireSprite(organizationId: string, present: number): Promise<void>;
  /** `present`: sprites that have a machine. */
  requireRunning(organizationId: string, present: number): void;
}

/** Throws `size_beyond_host` when a size is more than this host gives. */
export function requireWithinHost(config: SpriteConfig, limits: SpriteLimits): void {
  const { cpus, memoryMib, storageGb } = config;
  if (cpus > limits.cpusMax) throw new ApiError("size_beyond_host", `cpus is ${cpus}, this host allows at most ${limits.cpusMax}`);
  if (memoryMib > limits.memoryMibMax)
    throw new ApiError("size_beyond_host", `ram_mb is ${memoryMib}, this host allows at most ${limits.memoryMibMax}`);
  if (storageGb < limits.storageGbMin || storageGb > limits.storageGbMax) {
    throw new ApiError("size_beyond_host", `storage_gb is ${storageGb}, allowed are ${limits.storageGbMin} to ${limits.storageGbMax}`);
  }
}
