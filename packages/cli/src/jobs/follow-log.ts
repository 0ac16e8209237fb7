/**
 * A job's log on standard output, also over lost connections.
 *
 * Invariants: every byte is written once and in order; after a loss reading goes on at the byte
 * after the last one written; bytes that the server no longer has are named on standard error.
 */
import { gapMessage } from "../exec/messages.ts";
import { getJob, openJobLog } from "../api/jobs.ts";
import { err } from "../output/style.ts";
import type { Target } from "../settings/load.ts";
import { Persistence } from "./persist.ts";

/** Silence after which the server is asked whether there is more, ms. */
const SILENCE_MS = 20_000;

export type LogStream = "stdout" | "stderr" | "all";

export interface LogRequest {
  stream: LogStream;
  offset: number;
  follow: boolean;
  reconnectForMs: number;
}

/** Resolves when everything was written, or nobody reads standard output any more. */
export async function showLog(target: Target, id: string, request: LogRequest): Promise<void> {
  const persistence = new Persistence(target.sprite, request.reconnectForMs);
  const output = new LogOutput(request.offset);
  while (!output.closed) {
    try {
      await readOnce(target, id, { request, output, persistence });
      return;
    } catch (error) {
      if (output.closed) return;
      await persistence.failed(error);
    }
  }
}

async function readOnce(
  target: Target,
  id: string,
  { request, output, persistence }: { request: LogRequest; output: LogOutput; persistence: Persistence },
): Promise<void> {
  const answer = await openJobLog(target, id, { stream: request.stream, offset: output.offset, follow: request.follow });
  persistence.connected();
  output.beginAt(Number(answer.headers["x-log-offset"] ?? output.offset));
  let heardMs = performance.now();
  const watch = setInterval(() => {
    if (performance.now() - heardMs < SILENCE_MS) return;
    heardMs = performance.now();
    void mustHaveMore(target, id, { stream: request.stream, offset: output.offset }).then((more) => more && answer.breakOff());
  }, SILENCE_MS / 4);
  try {
    for await (const bytes of answer.bytes) {
      heardMs = performance.now();
      await output.write(bytes);
      if (output.closed) return;
    }
  } finally {
    clearInterval(watch);
  }
}

/** True when a silent connection should have brought something, or the server cannot be asked: it is as good as broken. */
async function mustHaveMore(target: Target, id: string, at: { stream: LogStream; offset: number }): Promise<boolean> {
  try {
    const job = await getJob(target, id);
    const bytes = { stdout: job.stdoutBytes, stderr: job.stderrBytes, all: job.stdoutBytes + job.stderrBytes }[at.stream];
    return job.state !== "running" || bytes > at.offset;
  } catch {
    return true; // the next attempt says why
  }
}

/** Standard output with the offset of the next byte. */
class LogOutput {
  offset: number;
  closed = false;

  constructor(offset: number) {
    this.offset = offset;
    process.stdout.on("error", () => (this.closed = true));
  }

  beginAt(offset: number): void {
    if (offset > this.offset) process.stderr.write(`${err("yellow", gapMessage(offset - this.offset))}\n`);
    this.offset = offset;
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.offset += bytes.length;
    if (process.stdout.write(bytes) || this.closed) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        process.stdout.off("drain", done);
        process.stdout.off("error", done);
        resolve();
      };
      process.stdout.on("drain", done);
      process.stdout.on("error", done);
    });
  }
}
