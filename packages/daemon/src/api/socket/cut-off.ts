/** The end of connections whose other side does not end them. */
import { ignore, sleep } from "@sprited/base";

interface Closable {
  once(event: "close", listener: () => void): unknown;
}

/** Calls `cut` when `connection` has not closed within `ms`. */
export function cutOffAfter(ms: number, connection: Closable, cut: () => void): void {
  const closed = new AbortController();
  connection.once("close", () => closed.abort());
  void sleep(ms, { signal: closed.signal }).then(cut, ignore("it closed by itself"));
}
