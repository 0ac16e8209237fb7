/** Facts a caller can branch on. */
export type DiskErrorCode =
  /** Not enough free space for what was asked; nothing was done. */
  | "disk_full"
  /** A file that must be there is missing, or its checksum or size is wrong. */
  | "disk_damaged"
  /** No image of that name or digest. */
  | "disk_image_unknown"
  /** The image definition is wrong. */
  | "disk_image_invalid"
  /** A step of an image build failed. */
  | "disk_build_failed"
  /** The size asked for is outside the limits. */
  | "disk_size"
  /** The pool could not be made or mounted. */
  | "disk_pool"
  /** Any other failure of the file system. */
  | "disk_io";

export class DiskError extends Error {
  override readonly name = "DiskError";
  readonly code: DiskErrorCode;
  constructor(code: DiskErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
