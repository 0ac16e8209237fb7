import type { OnProgress } from "../pool/pool.ts";

/** A base image: the root file system that new sprites start with. Immutable, by digest. */
export interface ImageRecord {
  name: string;
  /** `sha256` hex over the definition and what was installed. */
  digest: string;
  /** Directory below the pool. */
  directory: string;
  builtAt: string;
  /** Packages and versions in the image, by source. */
  manifestPath: string;
  /** Bytes of content. */
  contentBytes: number;
}

export interface ImageStore {
  list(): Promise<ImageRecord[]>;
  /** The newest built image of that name. Throws `disk_image_unknown`. */
  get(name: string): Promise<ImageRecord>;
  find(name: string): Promise<ImageRecord | undefined>;
  byDigest(digest: string): Promise<ImageRecord>;
  /**
   * Builds the image unless the same content was built before. `definitionPath` undefined
   * means the definition shipped under that name.
   */
  build(name: string, options: { definitionPath?: string; onProgress?: OnProgress; signal?: AbortSignal }): Promise<ImageRecord>;
  /** Path of the image as a disk of `sizeGb` GB, made once per size from our own trusted content. */
  disk(image: ImageRecord, sizeGb: number): Promise<string>;
}

/** Kernel, initrd and read-only system image that every VM boots: ours, by digest. */
export interface SystemImage {
  digest: string;
  kernelPath: string;
  initrdPath: string;
  systemPath: string;
}
