/** A broken promise of this program itself; never the answer to bad input. */
export class AssertionError extends Error {
  override readonly name = "AssertionError";
}

/** Throws `AssertionError` unless `condition` holds. For programmer errors only. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** Makes a `switch` over a union total: compiles only when every case was handled. */
export function unreachable(value: never, what: string): never {
  throw new AssertionError(`${what}: unhandled ${JSON.stringify(value)}`);
}
