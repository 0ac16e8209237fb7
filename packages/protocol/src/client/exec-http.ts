/** Running a command in a sprite by one plain HTTP request: for networks without WebSockets. */
import { queryToText } from "../api/query-text.ts";
import { ApiError } from "../errors.ts";
import { decodeServerMessage } from "../stream/exec-messages.ts";
import { ConnectionError } from "./errors.ts";

export interface HttpExecRequest {
  baseUrl: string;
  token: string;
  sprite: string;
  argv: readonly string[];
  env?: Readonly<Record<string, string>> | undefined;
  dir?: string | undefined;
  /** The command's whole input; undefined: empty. */
  input?: Uint8Array | undefined;
  fetch?: typeof fetch;
}

/**
 * Runs the command and hands its output over as it comes. Returns the exit code.
 * Throws `ApiError` for a refusal, `ConnectionError` for a broken or mangled answer.
 */
export async function execHttp(
  request: HttpExecRequest,
  onOutput: (stream: "stdout" | "stderr", data: Uint8Array) => void,
  options: { signal?: AbortSignal } = {},
): Promise<number> {
  const query = queryToText({
    cmd: request.argv,
    dir: request.dir,
    env: request.env && Object.entries(request.env).map(([name, value]) => `${name}=${value}`),
    stdin: request.input === undefined ? undefined : true,
  });
  const url = `${request.baseUrl.replace(/\/+$/, "")}/v1/sprites/${encodeURIComponent(request.sprite)}/exec?${query}`;
  const init: RequestInit = {
    method: "POST",
    headers: { authorization: `Bearer ${request.token}`, "content-type": "application/octet-stream" },
    body: (request.input ?? new Uint8Array()) as Uint8Array<ArrayBuffer>,
    ...(options.signal ? { signal: options.signal } : {}),
  };
  try {
    const response = await (request.fetch ?? fetch)(url, init);
    if (!response.ok) throw ApiError.fromAnswer(response.status, await response.text());
    return await readFrames(response, onOutput);
  } catch (error) {
    options.signal?.throwIfAborted();
    if (ApiError.is(error) || error instanceof ConnectionError) throw error;
    throw new ConnectionError("unreachable", `the connection to ${request.baseUrl} failed`, { cause: error });
  }
}

async function readFrames(response: Response, onOutput: (stream: "stdout" | "stderr", data: Uint8Array) => void): Promise<number> {
  const reader = response.body?.getReader();
  for (;;) {
    const step = await reader?.read();
    if (!step || step.done) throw new ConnectionError("closed", "the answer ended before the command did");
    const message = decodeServerMessage(step.value as Uint8Array, { tty: false });
    if (message.kind === "exit") return message.code;
    if (message.kind === "output") onOutput(message.stream, message.data);
    else throw new ConnectionError("bad_answer", "the answer was cut into other pieces on its way; run the command over the WebSocket");
  }
}
