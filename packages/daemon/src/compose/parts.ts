/** What the features are put together from: the host's parts and their settings, as data. */
import type { DiskPool, DiskVerdict, HomeLayout, ImageStore, SystemImage } from "@sprited/disk";
import type { NetworkSlots, OpenNetworkSlots, VmmDriver } from "@sprited/vmm";
import type { ExecSettings } from "../exec/index.ts";
import type { JobSettings } from "../job/index.ts";
import type { RestSettings, SpriteDefaults, SpriteLimits } from "../sprite/index.ts";
import type { CheckpointSettings } from "./checkpoints.ts";

/** What the host gives. */
export interface HostParts {
  layout: HomeLayout;
  driver: VmmDriver;
  /** Undefined where the host has no taps. */
  slots: OpenNetworkSlots | undefined;
  pool: DiskPool;
  images: ImageStore;
  system: SystemImage;
  /** Slots whose VMs reach no network; the real ones when left out. */
  isolate?: ((slots: NetworkSlots) => NetworkSlots) | undefined;
  /** Checks the file system of a throwaway clone; the real check when left out. */
  checkDisk?: ((file: string, options: { signal: AbortSignal }) => Promise<DiskVerdict>) | undefined;
}

export interface FeatureSettings {
  defaults: SpriteDefaults;
  limits: SpriteLimits;
  rest?: RestSettings;
  checkpoints?: CheckpointSettings;
  exec?: Omit<ExecSettings, "logDirectory">;
  jobs?: JobSettings;
  timeouts: { bootMs: number; resumeMs: number; guestCallMs: number; stopMs: number };
}

export const JOB_DEFAULTS: JobSettings = { retentionMs: undefined, keptPerSprite: 200, webhookPrivate: false };
export const EXEC_DEFAULTS: Omit<ExecSettings, "logDirectory"> = {
  logBytesMax: 64 * 1024 * 1024,
  retention: { countMax: 100, ageMsMax: 7 * 86_400_000, bytesMax: 256 * 1024 * 1024 },
};
