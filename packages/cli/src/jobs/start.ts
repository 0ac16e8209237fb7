/** `sprite exec --background`: starts a job and prints its id alone. */
import { createReadStream } from "node:fs";
import { ConnectionError } from "@sprited/protocol/client/errors";
import { startJob } from "../api/jobs.ts";
import { envRecord } from "../args/decoders.ts";
import { CliError, EXIT_USAGE } from "../output/cli-error.ts";
import { err } from "../output/style.ts";
import { webhookSecret } from "../settings/environment.ts";
import type { Target } from "../settings/load.ts";

/** Largest input of a job, bytes; base64 in the request makes it larger by a third. */
const INPUT_BYTES_MAX = 700 * 1024;

export interface BackgroundOptions {
  env?: readonly string[] | undefined;
  dir?: string | undefined;
  /** A file's path; `-`: standard input, which is never read unasked: a script's may have no end. */
  input?: string | undefined;
  /** ms. */
  timeout?: number | undefined;
  webhook?: string | undefined;
  key?: string | undefined;
}

export async function startInBackground(target: Target, argv: readonly string[], options: BackgroundOptions): Promise<void> {
  const stdin = options.input === undefined ? undefined : await readInput(options.input);
  const idempotencyKey = options.key ?? crypto.randomUUID(); // makes the one repetition below safe
  const job = {
    argv,
    env: envRecord(options.env ?? []),
    dir: options.dir,
    stdin,
    timeoutMs: options.timeout === 0 ? undefined : options.timeout,
    idempotencyKey,
    webhook: options.webhook === undefined ? undefined : { url: options.webhook, secret: webhookSecret() },
  };
  const started = await startJob(target, job).catch(async (error: unknown) => {
    if (!(error instanceof ConnectionError) || error.code !== "closed") throw error;
    return await startJob(target, job);
  });
  process.stdout.write(`${started.id}\n`);
  if (process.stderr.isTTY)
    process.stderr.write(`${err("dim", `follow it with \`sprite jobs logs -f -s ${target.sprite} ${started.id}\``)}\n`);
}

async function readInput(file: string): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const chunk of file === "-" ? process.stdin : createReadStream(file)) {
      pieces.push(chunk as Uint8Array);
      bytes += (chunk as Uint8Array).length;
      if (bytes > INPUT_BYTES_MAX) break;
    }
  } catch (cause) {
    const name = file === "-" ? "standard input" : file;
    throw new CliError(`Cannot read ${name}.`, { hint: "Check its name and permissions.", code: "input_unreadable", cause });
  }
  if (bytes > INPUT_BYTES_MAX)
    throw new CliError(`A job's input has at most ${INPUT_BYTES_MAX / 1024} KiB.`, {
      hint: "Put it into a file in the sprite first.",
      exitCode: EXIT_USAGE,
      code: "input_too_large",
    });
  return Buffer.concat(pieces);
}
