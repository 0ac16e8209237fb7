/** What a sprite's next VM is made of. Pure. */
import { createHash } from "node:crypto";
import path from "node:path";
import type { MachineSpec } from "../machine/index.ts";
import type { Sprite } from "./sprite.ts";

/** The sprite's disk in its directory. */
export function diskPathOf(directory: string): string {
  return path.join(directory, "disk.raw");
}

export function machineSpecOf(sprite: Sprite, directory: string): MachineSpec {
  return {
    shape: { cpus: sprite.config.cpus, memoryMib: sprite.config.memoryMib },
    storageGb: sprite.config.storageGb,
    diskPath: diskPathOf(directory),
    memoryDirectory: path.join(directory, "memory"),
    hostname: sprite.name,
    machineId: createHash("sha256").update(`machine-id:${sprite.id}`).digest("hex").slice(0, 32),
    renewIdentity: sprite.lastRunningAtMs === undefined,
    environment: sprite.environment,
  };
}
