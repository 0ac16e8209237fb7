/** Reading request bodies: bounded, and JSON whatever the content type says. */
import { ApiError } from "@sprited/protocol/errors";

/**
 * The JSON body of a request; undefined when it has none.
 * Throws `body_too_large`, `body_invalid`.
 */
export async function readJsonBody(request: Request, bytesMax: number): Promise<unknown> {
  const bytes = await readBytes(request, bytesMax);
  if (bytes.length === 0) return undefined;
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new ApiError("body_invalid", "the body is not UTF-8", { cause });
  }
  if (text.trim() === "") return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ApiError("body_invalid", "the body is not JSON", { cause });
  }
}

async function readBytes(request: Request, bytesMax: number): Promise<Uint8Array> {
  const announced = Number(request.headers.get("content-length") ?? "0");
  if (announced > bytesMax) throw tooLarge(bytesMax);
  const chunks: Uint8Array[] = [];
  let length = 0;
  const reader = request.body?.getReader();
  while (reader) {
    const step = await reader.read().catch((cause: unknown) => {
      throw new ApiError("body_invalid", "the body ended before it was complete", { cause });
    });
    if (step.done) break;
    length += step.value.length;
    if (length > bytesMax) throw tooLarge(bytesMax);
    chunks.push(step.value);
  }
  return Buffer.concat(chunks);
}

function tooLarge(bytesMax: number): ApiError {
  return new ApiError("body_too_large", `the body is larger than ${bytesMax} bytes`, { details: { limit: bytesMax } });
}
