/** The error that ends a command: what was wrong, what to do, and the exit code. */

/** General failure. */
export const EXIT_FAILURE = 1;
/** The command line was not understood. */
export const EXIT_USAGE = 2;
/** Added to the number of the signal that ended a command. */
export const EXIT_SIGNAL_BASE = 128;

export class CliError extends Error {
  override readonly name = "CliError";
  /** What the user can do about it, one sentence. */
  readonly hint: string | undefined;
  /** Machine-readable code, for `--json`. */
  readonly code: string;
  readonly exitCode: number;

  constructor(message: string, options: { hint?: string | undefined; code?: string; exitCode?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.hint = options.hint;
    this.code = options.code ?? "cli_error";
    this.exitCode = options.exitCode ?? EXIT_FAILURE;
  }
}
