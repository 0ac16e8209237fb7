export { checkGuestDisk, type DiskVerdict } from "./check/guest-disk.ts";
export {
  DEFAULT_MIRROR,
  DEFAULT_SECURITY_MIRROR,
  provision,
  type Provisioned,
  type ProvisionOptions,
  provisionRuntime,
} from "./provision/provision.ts";
export { dataExtents, type Extent } from "./clone/extents.ts";
export { asDiskError } from "./clone/fs-error.ts";
export { DiskError, type DiskErrorCode } from "./errors.ts";
export { syncDirectory, syncFile, tempBeside, writeFileAtomic } from "./layout/atomic.ts";
export { type HomeLayout, homeLayout } from "./layout/home.ts";
export { findSweep, type References, runSweep, sweepUnfinished, type SweepItem } from "./layout/sweep.ts";
export type { ImageRecord, ImageStore, SystemImage } from "./image/image.ts";
export { STORAGE_GB_MAX, STORAGE_GB_MIN } from "./image/ext4.ts";
export { type ImageManifest } from "./image/manifest.ts";
export { readManifest } from "./image/build.ts";
export { type ImageStoreOptions, type ImageVerdict, openImageStore, verifyImage } from "./image/store.ts";
export { openDiskPool, type OpenPoolOptions } from "./pool/open.ts";
export type { DiskPool, OnProgress, Progress } from "./pool/pool.ts";
export { loadSystem, loadSystemByDigest } from "./system/build.ts";
export { findQemu, type Qemu } from "./system/qemu.ts";
