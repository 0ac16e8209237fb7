/**
 * Reads the answer to `GET /ports` (PORTS-1): lines of JSON without end. Every line is validated
 * and bounded before it is used.
 */
import http2, { type ClientHttp2Stream, type IncomingHttpHeaders } from "node:http2";
import { ignore } from "@sprited/base";
import { portsLine, type PortsLine } from "@sprited/protocol/guest";
import { GuestError } from "./errors.ts";

/** Longest line, bytes: every listening socket opened and closed at once. */
const LINE_BYTES_MAX = 512 * 1024;

export interface PortLinesOptions {
  stream: ClientHttp2Stream;
  /** Leaves the stream. */
  signal: AbortSignal;
  /** Ends the link because the guest broke the protocol. */
  onViolation(error: GuestError): void;
}

/** The lines as they come. Ends without error when the signal aborts; throws `GuestError` when the stream breaks. */
export async function* readPortLines({ stream, signal, onViolation }: PortLinesOptions): AsyncGenerator<PortsLine, void, void> {
  stream.end();
  const violation = (cause: unknown): GuestError => {
    const error = new GuestError("guest_protocol", "the guest's agent broke the protocol", { cause });
    onViolation(error);
    return error;
  };
  let refused = 0;
  stream.once("response", (headers: IncomingHttpHeaders) => {
    if (Number(headers[":status"]) !== 200) refused = Number(headers[":status"]);
  });
  const stop = (): void => stream.close(http2.constants.NGHTTP2_CANCEL);
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  try {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      // An agent of before ports were watched.
      if (refused !== 0) return;
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      if (rest.length > LINE_BYTES_MAX) throw violation(new Error("a line beyond its limit"));
      for (const line of lines) yield validLine(line, violation);
    }
  } catch (cause) {
    if (signal.aborted) return;
    throw cause instanceof GuestError ? cause : new GuestError("guest_link_lost", "the link to the guest broke", { cause });
  } finally {
    signal.removeEventListener("abort", stop);
    stream.on("error", ignore("nobody reads it any more"));
    stop();
  }
}

function validLine(line: string, violation: (cause: unknown) => GuestError): PortsLine {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw violation(cause);
  }
  const parsed = portsLine.safeParse(value);
  if (!parsed.success) throw violation(parsed.error);
  return parsed.data;
}
