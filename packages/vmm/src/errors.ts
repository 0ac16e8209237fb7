/** Facts a caller can branch on. */
export type VmmErrorCode =
  /** The VMM program is missing or too old. */
  | "vmm_unavailable"
  /** The process ended before its guest ran. */
  | "vmm_exited_early"
  /** The process did not answer in time. */
  | "vmm_timeout"
  /** The control socket answered with an error or garbage. */
  | "vmm_control"
  /** The snapshot is of another build or shape, or its files are damaged or missing. */
  | "vmm_snapshot_unusable"
  /** RAM is not in a file of its own. */
  | "vmm_not_shared"
  /** No free network slot, or the host refused to make one. */
  | "vmm_network";

export class VmmError extends Error {
  override readonly name = "VmmError";
  readonly code: VmmErrorCode;
  constructor(code: VmmErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
