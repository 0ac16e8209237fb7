import { execa } from "execa";

/**
 * Short commands, and the only place that starts them. Invariants: never a shell, a minimal
 * environment, bounded time and output.
 */

/** Default limit of a short command, `ms`. */
const RUN_TIMEOUT_MS = 60_000;
/** Output kept of a short command, per stream, bytes. */
const RUN_OUTPUT_BYTES_MAX = 16 * 1024 * 1024;

export interface RunOptions {
  signal?: AbortSignal | undefined;
  timeoutMs?: number;
  cwd?: string;
  /** Added to a minimal environment (PATH, HOME, LANG); the caller's is not inherited. */
  env?: Record<string, string>;
  /** Bytes for standard input; nothing when left out. */
  input?: string | Uint8Array;
  /** Called with each line of standard output and error as it comes. */
  onLine?: (line: string) => void;
}

export interface RunResult {
  stdout: string;
  stderr: string;
}

/** A short command that could not start, failed, was killed or ran out of time. */
export class RunError extends Error {
  override readonly name = "RunError";
  /** argv[0] only: arguments may carry secrets. */
  readonly program: string;
  readonly exitCode: number | undefined;
  readonly stderr: string;
  constructor(program: string, detail: { exitCode: number | undefined; stderr: string; why: string; cause?: unknown }) {
    super(`${program} ${detail.why}${detail.stderr ? `: ${detail.stderr.trim().slice(-2000)}` : ""}`, { cause: detail.cause });
    this.program = program;
    this.exitCode = detail.exitCode;
    this.stderr = detail.stderr;
  }
}

/**
 * Runs a short command to its end and returns its output.
 * Throws `RunError` on a non-zero exit, a signal, a time-out or a program that is not there.
 * Never for VMM processes: the child dies with its parent.
 */
export async function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const child = execa(program, [...args], {
    reject: false,
    extendEnv: false,
    env: {
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      HOME: process.env["HOME"] ?? "/root",
      LANG: "C.UTF-8",
      ...options.env,
    },
    timeout: options.timeoutMs ?? RUN_TIMEOUT_MS,
    maxBuffer: RUN_OUTPUT_BYTES_MAX,
    stripFinalNewline: false,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.input === undefined ? { stdin: "ignore" as const } : { input: options.input }),
    ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
  });
  // Each stream on its own: of two mixed ones, one's unfinished line would swallow the other's.
  const reading = options.onLine
    ? [readLines(child.iterable({ from: "stdout" }), options.onLine), readLines(child.iterable({ from: "stderr" }), options.onLine)]
    : [];
  const result = await child;
  await Promise.all(reading);
  options.signal?.throwIfAborted();
  const stdout = String(result.stdout ?? "");
  const stderr = String(result.stderr ?? "");
  if (!result.failed) return { stdout, stderr };
  const why = result.timedOut
    ? `took longer than ${options.timeoutMs ?? RUN_TIMEOUT_MS} ms`
    : result.signal
      ? `was ended by ${result.signal}`
      : result.exitCode === undefined
        ? `could not be started`
        : `exited with ${result.exitCode}`;
  throw new RunError(program, { exitCode: result.exitCode, stderr, why, cause: result.cause });
}

async function readLines(lines: AsyncIterable<unknown>, onLine: (line: string) => void): Promise<void> {
  try {
    for await (const line of lines) onLine(String(line));
  } catch {
    // A command that fails also ends its streams with an error; the failure is reported by the command.
  }
}
