/** TCP connections into sprites and the ports they listen on, on the wire. Both are WebSockets. */
import type { ErrorCode } from "../errors.ts";
import { endpoint } from "./endpoint.ts";

const OF_WAKING = [
  "sprite_not_found",
  "token_name_prefix",
  "websocket_invalid",
  "sprite_failed",
  "sprite_deleting",
  "vm_failed_to_start",
  "vm_lost",
  "guest_unresponsive",
  "operation_timeout",
  "busy",
  "disk_full",
  "disk_damaged",
  "image_damaged",
] as const satisfies readonly ErrorCode[];

export const portEndpoints = {
  proxySocket: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/proxy",
    kind: "websocket",
    access: "token",
    tag: "ports",
    summary: "A TCP connection to a port in the sprite",
    description:
      'Wakes the sprite. The client sends `{"host","port"}` as text and gets `{"status":"connected","target"}`; then binary messages are the connection\'s bytes. With `"resumable":true` it outlives the WebSocket.',
    status: 101,
    errors: OF_WAKING,
  }),
  watchPortsSocket: endpoint({
    method: "GET",
    path: "/v1/sprites/{name}/ports/watch",
    kind: "websocket",
    access: "token",
    tag: "ports",
    summary: "The ports the sprite listens on, as they come and go",
    description: "Wakes the sprite. `port_list` first, then `port_opened` and `port_closed`.",
    status: 101,
    errors: OF_WAKING,
  }),
};
