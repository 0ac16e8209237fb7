/** Facts a caller can branch on; each has an exit code of its own (docs/exit-codes.md). */
export type SetupErrorCode =
  /** Root is needed and cannot be had. */
  | "not_root"
  /** A package or image source could not be reached. */
  | "no_network"
  /** Less free disk space than the next steps need; nothing was begun. */
  | "no_space"
  /** The distribution is unknown and programs are missing. */
  | "unknown_distribution"
  /** The package manager failed or stayed locked. */
  | "packages_failed"
  /** The home cannot be made or written. */
  | "home_unusable"
  /** Another daemon or set-up works on this home. */
  | "home_busy";

export class SetupError extends Error {
  override readonly name = "SetupError";
  readonly code: SetupErrorCode;
  constructor(code: SetupErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
