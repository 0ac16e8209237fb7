/**
 * The envelope of the control connection: text messages `control:` + JSON. Everything else on that
 * socket is data of the operation that runs. Pure; decoding never throws.
 */
import type { ClientMessage } from "./exec-messages.ts";
import { decodeClientMessage } from "./exec-messages.ts";

const PREFIX = "control:";

/** What a client asks for. Arguments are checked by whoever carries the operation out. */
export type ControlRequest =
  | { kind: "start"; op: string; args: Record<string, unknown> }
  /** Data of the running operation, or a message that means nothing here. */
  | { kind: "data" }
  | { kind: "broken"; why: string };

/** What a server says about an operation. */
export type ControlAnswer = { kind: "complete"; exitCode: number } | { kind: "error"; message: string };

export function encodeControlAnswer(answer: ControlAnswer): string {
  return `${PREFIX}${JSON.stringify(
    answer.kind === "complete"
      ? { type: "op.complete", args: { exitCode: answer.exitCode } }
      : { type: "op.error", args: { error: answer.message } },
  )}`;
}

/** Reads a message from a client. */
export function decodeControlRequest(message: Uint8Array | string): ControlRequest {
  if (typeof message !== "string" || !message.startsWith(PREFIX)) return { kind: "data" };
  const value = objectOf(message.slice(PREFIX.length));
  if (!value) return { kind: "broken", why: "control: must be followed by a JSON object" };
  const { type, op, args } = value;
  if (type !== "op.start") return { kind: "data" }; // kinds we do not know are nothing
  if (typeof op !== "string") return { kind: "broken", why: "op.start names no operation" };
  return { kind: "start", op, args: isObject(args) ? args : {} };
}

/**
 * Reads data of a running command. Signals and sizes come as text or as a binary message that is
 * one such JSON object; the official JavaScript client sends the latter.
 */
export function decodeControlData(message: Uint8Array | string, options: { tty: boolean }): ClientMessage {
  if (typeof message !== "string" && message[0] === 0x7b) {
    const asText = decodeClientMessage(new TextDecoder().decode(message), options);
    if (asText.kind !== "ignored") return asText;
  }
  return decodeClientMessage(message, options);
}

function objectOf(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined; // said by the caller
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
