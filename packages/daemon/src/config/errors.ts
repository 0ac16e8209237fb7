/** A setting that is unknown, of the wrong type or out of range; every message names its key and its origin. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  /** One sentence per wrong setting. */
  readonly problems: readonly string[];
  constructor(problems: readonly string[], options?: { cause?: unknown }) {
    super(problems.join("\n"), options);
    this.problems = problems;
  }
}
