import { existsSync, statfsSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { STORAGE_GB_MAX } from "./schema.ts";

/** What the automatic defaults depend on. */
export interface HostFacts {
  cpus: number;
  /** MiB. */
  memoryMb: number;
  /** 0 is root. */
  uid: number;
  homeDirectory: string;
  /** `XDG_STATE_HOME`, when set to an absolute path. */
  xdgStateHome: string | undefined;
  /** Size of the file system that holds a path (or its nearest existing parent), GiB. */
  filesystemGb: (path: string) => number;
}

/** Asks this host. */
export function hostFacts(environment: Readonly<Record<string, string | undefined>>): HostFacts {
  const xdg = environment["XDG_STATE_HOME"];
  return {
    cpus: os.availableParallelism(),
    memoryMb: Math.floor(os.totalmem() / 1_048_576),
    uid: process.getuid?.() ?? 0,
    homeDirectory: os.homedir(),
    xdgStateHome: xdg !== undefined && path.isAbsolute(xdg) ? xdg : undefined,
    filesystemGb,
  };
}

/** Where state lives when nothing says otherwise. */
export function defaultHome(host: HostFacts): string {
  if (host.uid === 0) return "/var/lib/sprited";
  return path.join(host.xdgStateHome ?? path.join(host.homeDirectory, ".local", "state"), "sprited");
}

/** Values of every setting whose default depends on the host. */
export function automaticValues(host: HostFacts, home: string, storageGb: number): Record<string, unknown> {
  const memoryMb = Math.max(256, host.memoryMb);
  return {
    home,
    "sprite.cpus": Math.max(1, Math.min(2, host.cpus)),
    "sprite.memory_mb": Math.max(256, Math.min(2048, Math.floor(memoryMb / 2))),
    "limits.cpus": Math.max(1, host.cpus),
    "limits.memory_mb": memoryMb,
    "limits.running_memory_mb": 3 * memoryMb,
    "limits.starts_parallel": Math.max(4, 2 * host.cpus),
    "limits.memory_reserve_mb": Math.min(4096, Math.max(256, Math.floor(memoryMb / 16))),
    "limits.storage_gb": Math.min(STORAGE_GB_MAX, Math.max(5, storageGb, host.filesystemGb(home))),
    "disk.pool_size_gb": Math.max(1, host.filesystemGb(home)),
  };
}

function filesystemGb(target: string): number {
  let at = path.resolve(target);
  while (!existsSync(at) && at !== path.dirname(at)) at = path.dirname(at);
  const info = statfsSync(at);
  return Math.floor((info.bsize * info.blocks) / 1_073_741_824);
}
