import type { Logger } from "@sprited/base";
import type { OnProgress } from "@sprited/disk";
import type { Config } from "../config/index.ts";

/**
 * What the commands need of the rest of the daemon. The real one is loaded only when a command
 * needs it, so that `--version` and mistakes on the command line stay quick; tests bring their own.
 */
export interface DaemonPort {
  /** Starts serving; resolves when requests are answered. */
  start(config: Config, options: { logger: Logger }): Promise<RunningDaemon>;
  /** Makes the boot snapshot of the default sprite, so that the first create resumes instead of boots. */
  makeBootSnapshot(config: Config, options: { logger: Logger; onProgress: OnProgress; signal?: AbortSignal | undefined }): Promise<void>;
}

export interface RunningDaemon {
  /** Where the API listens. */
  address: { host: string; port: number };
  /** What this host lacks, a sentence each. */
  limitations: readonly string[];
  /** Stops serving in order. VMs stay. */
  close(): Promise<void>;
}
