/** Reading one answer of a guest's agent: its status, and a JSON body of bounded length. */
import http2 from "node:http2";
import type { ClientHttp2Stream, IncomingHttpHeaders } from "node:http2";

/** The stream went away before the answer was whole. */
export class StreamLostError extends Error {
  override readonly name = "StreamLostError";
}

/** A body that is too long or no JSON. */
export class BodyError extends Error {
  override readonly name = "BodyError";
}

export async function responseStatus(stream: ClientHttp2Stream, signal: AbortSignal): Promise<number> {
  return await new Promise((resolve, reject) => {
    const lost = (): void => reject(new StreamLostError("no response"));
    stream.once("response", (headers: IncomingHttpHeaders) => {
      stream.off("close", lost);
      resolve(Number(headers[":status"]));
    });
    stream.once("close", lost);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

export async function readJson(stream: ClientHttp2Stream, bytesMax: number): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > bytesMax) throw new BodyError(`more than ${bytesMax} bytes`);
      chunks.push(chunk);
    }
  } catch (cause) {
    if (cause instanceof BodyError) throw cause;
    throw new StreamLostError("the answer was cut", { cause });
  }
  if (!stream.readableEnded || stream.rstCode !== http2.constants.NGHTTP2_NO_ERROR) throw new StreamLostError("the answer was cut");
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks)));
  } catch (cause) {
    throw new BodyError("no JSON", { cause });
  }
}
