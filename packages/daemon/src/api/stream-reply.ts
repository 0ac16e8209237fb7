/** Answers without end: a generator of pieces as a response body that stops when the client goes. */
import { inspect } from "node:util";
import { ignore } from "@sprited/base";

export interface StreamReply {
  contentType: string;
  /** Makes the pieces; `signal` aborts when the client is gone. */
  pieces(signal: AbortSignal): AsyncGenerator<Uint8Array, void, void>;
  /** Called once, when the last piece is out, the client is gone, or making pieces failed. */
  onEnd?(outcome: "complete" | "client_gone" | "failed", error?: unknown): void;
}

/** Ends an answer in the middle, so that the client sees a broken connection and not an end. The HTTP layer prints it: one line. */
export class CutOff extends Error {
  override readonly name = "CutOff";

  [inspect.custom](): string {
    return `an answer was cut off: ${this.message}`;
  }
}

/** Each piece is one chunk on the wire, written before the next one is asked for. */
export function streamReply(reply: StreamReply): Response {
  const ender = new AbortController();
  const pieces = reply.pieces(ender.signal);
  let over = false;
  const end = (outcome: "complete" | "client_gone" | "failed", error?: unknown): void => {
    if (over) return;
    over = true;
    ender.abort();
    reply.onEnd?.(outcome, error);
  };
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const step = await pieces.next();
          if (over) return;
          if (!step.done) return controller.enqueue(step.value);
          end("complete");
          controller.close();
        } catch (error) {
          end("failed", error);
          controller.error(error);
        }
      },
      cancel() {
        end("client_gone");
        void pieces.return().catch(ignore("the client is gone"));
      },
    },
    { highWaterMark: 0 },
  );
  return new Response(body, {
    headers: {
      "content-type": reply.contentType,
      "cache-control": "no-store, no-transform",
      "transfer-encoding": "chunked",
      "x-accel-buffering": "no",
    },
  });
}
