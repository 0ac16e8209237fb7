/**
 * Text messages of a proxy WebSocket (docs/spec/ports.md); binary messages are the bytes of the
 * TCP connection. Pure; any JavaScript runtime; no schema library, so that a client starts fast.
 *
 * ```
 * client  {"host","port"}                     one connection, as the official clients ask for it
 *         {"host","port","resumable":true}    one that outlives its WebSocket; ours. With "key" asked for again when the answer was lost
 *         {"resume":ID,"offset":N}            goes on with it after N bytes were received; ours
 * server  {"status":"connected","target",…} or {"status":"error","target","error","code"}
 * then    binary both ways; on resumable connections also `eof` and `ack` both ways, `reset` from the server
 * ```
 */

/** First message of a client. */
export type ProxyRequest =
  | { kind: "connect"; host: string; port: number; resumable: boolean; key?: string }
  | { kind: "resume"; sessionId: string; offset: number };

/** First message of a server. */
export type ProxyAnswer =
  | {
      status: "connected";
      target: string;
      /** Only of a resumable connection. */
      session_id?: string;
      /** Bytes of the client's that the server has: it sends on from there. */
      input_offset?: number;
    }
  | { status: "error"; target: string; error: string; code: string };

/** Later texts of a resumable connection. */
export type ProxyText =
  /** The sender sends no more bytes. */
  | { type: "eof" }
  /** The receiver has every byte before this offset for good: the sender need not keep them. */
  | { type: "ack"; offset: number }
  /** The connection broke; from the server. */
  | { type: "reset"; error: string };

const HOST_LENGTH_MAX = 253;
const KEY_PATTERN = /^[A-Za-z0-9_-]{1,64}$/;

/** Reads a client's first message; a string says what is wrong with it. */
export function decodeProxyRequest(text: string): ProxyRequest | string {
  const value = parseObject(text);
  if (!value) return "the first message must be a JSON object";
  if (value["resume"] !== undefined) {
    const { resume, offset } = value;
    if (typeof resume !== "string" || !/^[0-9]{1,20}$/.test(resume)) return "resume must be the id of a connection";
    return isOffset(offset) ? { kind: "resume", sessionId: resume, offset } : "offset must be a count of bytes";
  }
  const { host, port, resumable, key } = value;
  if (host !== undefined && (typeof host !== "string" || host.length > HOST_LENGTH_MAX)) return "host must be a name or an IP address";
  if (typeof port !== "number" || !Number.isInteger(port) || port < 1 || port > 65_535) return "port must be a number from 1 to 65535";
  if (key !== undefined && (typeof key !== "string" || !KEY_PATTERN.test(key))) return "key must be 1 to 64 letters, digits, - or _";
  const connect = { kind: "connect", host: host || "localhost", port } as const;
  return resumable === true ? { ...connect, resumable, ...(key === undefined ? {} : { key }) } : { ...connect, resumable: false };
}

/** Reads a server's first message; undefined when it is none. */
export function decodeProxyAnswer(text: string): ProxyAnswer | undefined {
  const value = parseObject(text);
  if (!value) return undefined;
  const target = String(value["target"] ?? "");
  if (value["status"] !== "connected") {
    if (value["status"] === undefined) return undefined;
    return { status: "error", target, error: String(value["error"] ?? value["status"]), code: String(value["code"] ?? "") };
  }
  const { session_id: id, input_offset: offset } = value;
  return {
    status: "connected",
    target,
    ...(typeof id === "string" ? { session_id: id } : {}),
    ...(isOffset(offset) ? { input_offset: offset } : {}),
  };
}

/** Reads a later text; undefined for what is not understood, which is ignored. */
export function decodeProxyText(text: string): ProxyText | undefined {
  const value = parseObject(text);
  if (value?.["type"] === "eof") return { type: "eof" };
  if (value?.["type"] === "ack" && isOffset(value["offset"])) return { type: "ack", offset: value["offset"] };
  if (value?.["type"] === "reset") return { type: "reset", error: String(value["error"] ?? "") };
  return undefined;
}

function isOffset(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined; // told by the result
  }
}
