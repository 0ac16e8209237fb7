/** One `GET /ports` of the link: a line of JSON for what listens, then one for each change (PORTS-1). */
import type { ServerHttp2Stream } from "node:http2";
import type { PortWatch } from "./port-watch.ts";

/** Serves until the host leaves the stream. */
export function servePorts(stream: ServerHttp2Stream, ports: PortWatch): void {
  stream.respond({ ":status": 200, "content-type": "application/x-ndjson" });
  const stop = ports.watch({
    get isReady() {
      return stream.writable && !stream.writableNeedDrain;
    },
    tell: (line) => void stream.write(`${JSON.stringify(line)}\n`),
  });
  stream.once("close", stop);
  stream.resume();
}
