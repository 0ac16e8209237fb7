/** Runs the `sprite` command as a process of its own, with a home directory of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

export const SPRITE = path.resolve(import.meta.dirname, "../../packages/cli/bin/sprite");
/** Longest run of a command in these tests, ms. */
const RUN_TIMEOUT_MS = 30_000;

export interface CliResult {
  code: number | null;
  stdout: Buffer;
  out: string;
  err: string;
}

export class CliHome {
  readonly dir: string;
  readonly env: Record<string, string>;

  constructor(dir: string, env: Record<string, string>) {
    this.dir = dir;
    // No token of a server that happens to run on this machine.
    this.env = { PATH: process.env["PATH"] ?? "", SPRITED_HOME: path.join(dir, "no-server"), ...env, HOME: dir };
  }

  static async make(env: Record<string, string> = {}): Promise<CliHome> {
    return new CliHome(await mkdtemp(path.join(tmpdir(), "cli-")), env);
  }

  start(args: readonly string[], options: { env?: Record<string, string>; cwd?: string } = {}): ChildProcess {
    return this.startIn(SPRITE, args, options);
  }

  /** Starts another program in the same environment, such as one that runs the command. */
  startIn(program: string, args: readonly string[], options: { env?: Record<string, string>; cwd?: string } = {}): ChildProcess {
    return spawn(program, [...args], { env: { ...this.env, ...options.env }, cwd: options.cwd ?? this.dir, stdio: "pipe" });
  }

  async run(
    args: readonly string[],
    options: { env?: Record<string, string>; cwd?: string; input?: string | Uint8Array; timeoutMs?: number } = {},
  ): Promise<CliResult> {
    const child = this.start(args, options);
    child.stdin?.on("error", () => {}); // ended without reading
    child.stdin?.end(options.input ?? "");
    return collect(child, options.timeoutMs);
  }

  async remove(): Promise<void> {
    await rm(this.dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 }); // a command that was just ended may still write its compile cache
  }
}

/** Waits for the end of a started command; one that takes longer than `timeoutMs` is killed. */
export async function collect(child: ChildProcess, timeoutMs = RUN_TIMEOUT_MS): Promise<CliResult> {
  const pieces: { out: Buffer[]; err: Buffer[] } = { out: [], err: [] };
  child.stdout?.on("data", (data: Buffer) => pieces.out.push(data));
  child.stderr?.on("data", (data: Buffer) => pieces.err.push(data));
  const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  clearTimeout(timer);
  const stdout = Buffer.concat(pieces.out);
  return { code, stdout, out: stdout.toString("utf8"), err: Buffer.concat(pieces.err).toString("utf8") };
}
