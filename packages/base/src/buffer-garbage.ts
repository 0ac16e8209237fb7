/**
 * Keeps buffers that nobody holds any more from piling up. The engine collects them by the room
 * their small handles take, so that tens of megabytes of passed-on data stay resident; here the
 * data itself counts.
 *
 * Invariants: costs nothing where the process was not started with `--expose-gc`; never collects
 * the old generation.
 */

/** Data passed on between two collections, bytes: small beside a process, large beside what a collection costs (about 1 ms). */
export const COLLECT_EVERY_BYTES = 2 * 1024 * 1024;

type Collect = (options: { type: "minor"; execution: "sync" }) => void;

let passedBytes = 0;

/** Tells that `bytes` of data came in fresh buffers and are passed on. */
export function passedOn(bytes: number, collect: Collect | undefined = (globalThis as { gc?: Collect }).gc): void {
  passedBytes += bytes;
  if (passedBytes < COLLECT_EVERY_BYTES) return;
  passedBytes = 0;
  collect?.({ type: "minor", execution: "sync" });
}
