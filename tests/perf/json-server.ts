/**
 * The cheapest thing that can answer a list: a process that holds the objects, serialises them on
 * each request and sends the text. Prints its port; ends with its parent's pipe.
 */
import { readFileSync } from "node:fs";
import http from "node:http";
import type { AddressInfo } from "node:net";

const objects: unknown = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8"));
const server = http.createServer((_request, response) => {
  const text = JSON.stringify(objects);
  response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
  response.end(text);
});
server.listen(0, "127.0.0.1", () => console.log((server.address() as AddressInfo).port));
process.stdin.on("end", () => process.exit(0)).resume();
