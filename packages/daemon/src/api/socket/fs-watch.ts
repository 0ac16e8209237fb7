/**
 * One client that watches files: `subscribe` in, then `subscribed`, `event` and `error` out. A
 * client that does not read holds the guest back, where events that find no room are told as lost.
 */
import { DeadlineError, withDeadline } from "@sprited/base";
import { watchSubscribe } from "@sprited/protocol/api";
import { CloseCode } from "@sprited/protocol/stream";
import type WebSocket from "ws";
import type { FileScope } from "../../files/index.ts";
import type { FileAnswer } from "../../guest/index.ts";
import { toApiError } from "../error-map.ts";
import type { ApiContext } from "../handler.ts";
import { cutOffAfter } from "./cut-off.ts";

/** How long a client may take to say what it watches, ms. */
const SUBSCRIBE_TIMEOUT_MS = 30_000;
/** Unsent bytes at which events wait. */
const BUFFER_BYTES_MAX = 1024 * 1024;

export interface FileWatchOptions {
  socket: WebSocket;
  context: ApiContext;
  scope: Omit<FileScope, "signal">;
}

/** Serves the socket to its end. Never rejects. */
export async function serveFileWatch(options: FileWatchOptions): Promise<void> {
  const { socket } = options;
  const gone = new AbortController();
  socket.on("close", () => gone.abort(new Error("the client left")));
  socket.on("error", () => socket.terminate());
  try {
    const text = await firstMessage(socket, gone.signal);
    const parsed = watchSubscribe.safeParse(parseJson(text));
    if (!parsed.success) throw new InvalidError("the first message must be a subscribe message with paths");
    const { paths, recursive, workingDir, asRoot } = parsed.data;
    const answers = options.context.features.files.watch(
      { ...options.scope, signal: gone.signal },
      { paths, recursive: recursive ?? false, dir: workingDir ?? null, as_root: asRoot ?? false },
    );
    for await (const answer of answers) {
      const message = messageOf(answer, paths);
      if (message) await send(socket, message);
    }
  } catch (error) {
    if (!gone.signal.aborted) {
      const known = error instanceof InvalidError || error instanceof DeadlineError;
      const failed = known ? undefined : toApiError(error);
      await send(socket, {
        type: "error",
        message: failed?.message ?? (error as Error).message,
        ...(failed ? { code: failed.details["code"] ?? failed.code } : {}),
      });
    }
  }
  socket.close(CloseCode.normal);
  cutOffAfter(options.context.timings.closeMs, socket, () => socket.terminate());
}

class InvalidError extends Error {
  override readonly name = "InvalidError";
}

async function firstMessage(socket: WebSocket, gone: AbortSignal): Promise<string> {
  return await withDeadline("the subscribe message", { timeoutMs: SUBSCRIBE_TIMEOUT_MS, signal: gone }, async (signal) => {
    return await new Promise<string>((resolve, reject) => {
      socket.once("message", (data: Buffer) => resolve(data.toString("utf8")));
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
  });
}

function messageOf(answer: FileAnswer, paths: readonly string[]): object | undefined {
  if (answer.kind !== "record") return undefined;
  const { record } = answer;
  if (record.kind === "watching") return { type: "subscribed", paths };
  if (record.kind === "watch_error") return { type: "error", message: record.message };
  if (record.kind !== "event") return undefined;
  const { path, event, time_ms, size, is_dir } = record.event;
  return { type: "event", path, event, timestamp: new Date(time_ms).toISOString(), size, isDir: is_dir };
}

async function send(socket: WebSocket, message: object): Promise<void> {
  if (socket.readyState !== socket.OPEN) return;
  const text = JSON.stringify(message);
  if (socket.bufferedAmount < BUFFER_BYTES_MAX) socket.send(text, () => {});
  else await new Promise<void>((resolve) => socket.send(text, () => resolve()));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // told by the schema check that follows
  }
}
