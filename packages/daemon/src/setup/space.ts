import { statfs } from "node:fs/promises";
import path from "node:path";
import { SetupError } from "./errors.ts";

/**
 * Whether what is still to be made fits on the disk, asked before anything is begun.
 */

const GIB = 1_073_741_824;

/** Room that each part of the set-up needs at its peak, bytes: finished files plus what building them takes. */
export const SPACE_NEEDS = {
  /** System packages, on the system's own disk. */
  packages: 1.0 * GIB,
  /** Kernel, private QEMU, system image, their downloads. */
  system: 1.5 * GIB,
  /** Base image with compilers and runtimes: tree, raw file. */
  "image:default": 7 * GIB,
  "image:minimal": 1.5 * GIB,
  /** One RAM file. */
  snapshot: 1 * GIB,
} as const;

export type SpaceNeed = keyof typeof SPACE_NEEDS;

/** Free bytes where a path is or will be. */
export async function freeBytesAt(target: string): Promise<number> {
  let at = path.resolve(target);
  for (;;) {
    try {
      const info = await statfs(at);
      return info.bsize * info.bavail;
    } catch (error) {
      if (!["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "") || at === path.dirname(at)) throw error;
      at = path.dirname(at);
    }
  }
}

/** Throws `no_space` with both numbers unless everything in `needs` fits above the floor. Pure. */
export function requireSpace(home: string, options: { freeBytes: number; floorBytes: number; needs: readonly SpaceNeed[] }): void {
  const needed = options.needs.reduce((sum, need) => sum + SPACE_NEEDS[need], 0);
  if (needed === 0 || options.freeBytes >= needed + options.floorBytes) return;
  throw new SetupError(
    "no_space",
    `Not enough disk space for ${home}: ${gib(needed)} are needed for what is still to be made, plus ${gib(options.floorBytes)} that stay free ` +
      `(disk.free_floor_gb); ${gib(options.freeBytes)} are free. Free some, or set SPRITED_HOME to a larger disk.`,
  );
}

function gib(bytes: number): string {
  return `${(bytes / GIB).toFixed(1)} GiB`;
}
